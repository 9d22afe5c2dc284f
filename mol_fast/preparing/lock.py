"""One run at a time in a folder of a prepared set."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mol_fast.utils.errors import UserError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder `out`, which has the folder `records`, for as long as the context lasts.

    The lock is on the open file `records/.lock` (flock), so that it ends with the process, however that ends; the file
    stays. Between machines it holds where their network disk passes locks on, as NFS does unless it is mounted with
    `nolock` or `local_lock`; others have options of their own. Where the disk refuses to lock, a warning says so and
    the run goes on. Windows has no such lock.

    Raises:
        UserError: another run holds the folder.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(out / "records" / ".lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--out {out} is being prepared by another run; wait until that has ended, or give another folder."
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            text = f"{out} is on a disk without locks ({error.strerror}); start no second run into it"
            print(f"warning: {text}", file=sys.stderr, flush=True)
        yield
