import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from crcore.memory import keep_memory

def faults():
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [b"x" * (6 * 2**20 + k) for k in range(9)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun

before = faults()
keep_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide otherwise what they keep")
def test_memory_that_is_kept_is_not_asked_for_again():
    # Dask sets MALLOC_TRIM_THRESHOLD_ for the whole process; who sets such limits has decided, and they hold
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=env)
    before, after = map(int, done.stdout.split())
    assert after < before / 4
