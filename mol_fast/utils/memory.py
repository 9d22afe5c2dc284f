"""Settings of the memory allocator."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def keep_memory() -> None:
    """Keep freed memory in the process, in large pages, for the next step.

    By default glibc returns large freed blocks to the system, and the system clears every page of a new block. That
    took a third of a training step on a CPU. Call this before the first tensor. Does nothing without glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
