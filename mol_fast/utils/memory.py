"""Memory of the process, kept between steps."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def keep_memory() -> None:
    """Let freed memory stay with the process, in large pages, for the next step to use.

    The C library gives large blocks back to the system when they are freed, and the system clears every page of a new
    one: a third of the time of a training step on a CPU. Call it before the first tensor; where the C library is
    another than glibc it does nothing.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
