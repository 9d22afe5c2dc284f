"""Settings of the memory allocator and of the garbage collector."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""
_TURN = 0.0001  # seconds


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
    """Import much inside the context, beside other threads. What this makes is not searched for garbage, now or later.

    Nearly all of it stays, and PyTorch makes half a million objects: each search of them takes a tenth of a second.
    Other threads get their turn fifty times as often as usual: an import hardly ever waits for anything.
    """
    searched, known, interval = gc.isenabled(), len(sys.modules), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if len(sys.modules) > known:
            gc.freeze()
        if searched:
            gc.enable()
