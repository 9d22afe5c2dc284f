"""One run at a time in a folder of a prepared set."""

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
    """Hold the folder `out`, which has the folder `records`, for as long as the context lasts.

    The operating system holds the lock on the open file `records/.lock`. It ends with the process, however that ends,
    and the file stays. Between machines it holds where their network disk passes locks on, as NFS does unless it is
    mounted with `nolock` or `local_lock`. Where the disk refuses to lock, a warning says so and the run goes on.

    Raises:
        UserError: another run holds the folder.
    """
    lock = FileLock(out / "records" / ".lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"--out {out} is being prepared by another run; wait until that has ended, or give another folder"
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
