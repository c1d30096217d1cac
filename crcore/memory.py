"""Keep freed memory for the next block: on Linux much time goes else into pages that come and go."""

import numpy as np

__all__ = ["keep_memory"]

#: the largest block that the C library does not give back to the kernel at once, but only after it has once seen so
#: large a one freed (M_MMAP_THRESHOLD in mallopt(3): just under 32 MB)
_KEPT_BYTES = 2**25 - 2**16


def keep_memory():
    """Let blocks of up to 32 MB that are freed from now on stay with this process, for its next ones.

    It allocates one and gives it back, which is all that the GNU C library needs; others do not mind. Where the
    environment sets a limit of its own (``MALLOC_TRIM_THRESHOLD_``, as Dask does in its workers), that one holds.
    """
    np.empty(_KEPT_BYTES, np.uint8)
