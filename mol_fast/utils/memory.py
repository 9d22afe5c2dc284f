"""Settings of the memory allocator and of the garbage collector."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def large_imports() -> Iterator[None]:
    """Import much inside the context. The objects that this makes are not searched for garbage, now or later.

    Nearly all of them stay, and PyTorch makes half a million: each search of them takes a tenth of a second.
    """
    searched, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if searched:
            gc.enable()
