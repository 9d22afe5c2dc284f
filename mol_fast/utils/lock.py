"""Locks of folders, so that only one process writes into one."""

import errno
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mol_fast.utils.errors import UserError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class Held(UserError):
    """Another process holds the lock. The message says which one."""


@contextmanager
def locked(file: Path, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock `file` inside the context. The text of the file says who holds it; its folder must exist.

    The operating system locks the open file. The lock ends with the process, even a killed one; the file stays. The
    lock works between machines if their network disk supports locks: NFS does, unless mounted with `nolock` or
    `local_lock`. If the disk refuses to lock, the program continues with a warning.

    Args:
        file: file that is locked, and created if needed.
        busy: what the holder of the lock does, for the message: "the fold s01 is being trained".
        wait: wait until another process that holds the lock has ended, and say so, instead of raising `Held`.

    Raises:
        Held: another process holds the lock.
    """
    from filelock import FileLock, Timeout  # of an extra, which a program names when it is missing

    lock = FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        try:
            lock.acquire()
        except Timeout:
            holder = file.read_text(errors="replace").strip() or "another process"
            if not wait:
                raise Held(f"{busy} by {holder}: wait until that one has ended") from None
            print(f"{busy} by {holder}: waiting", file=sys.stderr, flush=True)
            lock.acquire(timeout=-1)
        file.write_text(f"process {os.getpid()} on {platform.node()}\n")
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        text = f"{file.parent} is on a disk without locks ({error.strerror}); start no second run into it"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        lock.release()
