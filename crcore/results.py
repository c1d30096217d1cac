"""Files that are whole or not there, and results that say how they were made."""

import contextlib
import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["atomic", "code_hash", "provenance", "read_json", "read_rows", "version", "write_json", "write_rows"]

_PACKAGES = (
    "astropy",
    "astroscrappy",
    "cosmic_conn",
    "deepCR",
    "galsim",
    "numpy",
    "reproject",
    "scipy",
    "sep",
    "torch",
)


@contextlib.contextmanager
def atomic(path):
    """Write to a temporary name and rename at the end: a reader never sees half a file.

    Yields the temporary path, in the same folder and with the same suffixes. On an
    error nothing is left behind and an older file stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@cache
def code_hash(*modules):
    """SHA-256 (16 digits) over the package's Python files: results made by other code differ in it.

    Parameters
    ----------
    *modules : str, optional
        Only these modules and subpackages, such as "labeling" or "simulate".
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        if modules and path.relative_to(root).with_suffix("").parts[0] not in modules:
            continue
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _revision():
    if shutil.which("git") is None:
        return "unknown: no git"
    inside = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    if inside.returncode or Path(inside.stdout.strip()).resolve() != Path(__file__).resolve().parent.parent:
        return "unknown: no git checkout"  # or another repository's, around an installed package
    command = ["git", "describe", "--always", "--dirty"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else "unknown: no git checkout"


def version():
    """Version of this package."""
    from crcore import __version__

    return __version__


def provenance(*, seed=None, seconds=None):
    """What is needed to make a result again: revision, code, seed, versions, machine, seconds."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "revision": _revision(),
        "code": code_hash(),
        "seed": seed,
        "seconds": None if seconds is None else round(seconds, 1),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions,
    }


def write_json(path, content):
    """Write a JSON file, whole or not at all."""
    with atomic(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def write_rows(path, rows):
    """Write dictionaries with the same keys as CSV, whole or not at all; floats keep all digits."""
    rows = list(rows)
    with atomic(path) as part, part.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else ["empty"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


_HASHES = ("revision", "code", "key", "sha256")


def read_rows(path):
    """Read CSV as a list of dictionaries; numbers become int or float, but in columns of hashes: 400e042 is none."""
    with Path(path).open(newline="") as stream:
        return [{k: v if k in _HASHES else _value(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def _value(text):
    if "_" in text:  # int() would take 2018_11 for a number
        return text
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
