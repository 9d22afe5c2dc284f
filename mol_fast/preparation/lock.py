"""A lock on the folder of a prepared set, so that only one run prepares it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mol_fast.utils.errors import UserError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the folder `out` inside the context. `out` must have a folder `records`.

    The operating system locks the open file `records/.lock`. The lock ends with the process, even a killed one; the
    file stays. The lock works between machines if their network disk supports locks: NFS does, unless mounted with
    `nolock` or `local_lock`. If the disk refuses to lock, the run continues with a warning.

    Raises:
        UserError: another run has locked the folder.
    """
    lock = FileLock(out / "records" / ".lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"--out {out} is being prepared by another run; wait until that run has ended, or give another folder"
        ) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        text = f"{out} is on a disk without locks ({error.strerror}); start no second run into it"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        lock.release()
