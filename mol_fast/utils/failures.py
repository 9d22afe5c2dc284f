"""Say in one sentence why a program failed, and keep the traceback of an error that nobody expected."""

import errno
import os
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

import torch

from mol_fast.utils.environment import versions
from mol_fast.utils.files import cache_folder

INTERNAL_ERROR = 70
"""Exit code after an internal error; EX_SOFTWARE of sysexits.h."""
_LONGEST_MESSAGE = 300  # characters
_SPACE = "free space or choose another folder"
_LOCATION = "correct the path"
_ACCESS = "change its permissions or choose another folder"
_NETWORK = "run the same command again when its disk answers"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "choose a disk that holds larger files",
    errno.EROFS: "choose a folder on another disk",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.ENAMETOOLONG: "choose a shorter name or folder",
    errno.EMFILE: "allow more with `ulimit -n`, or use fewer workers",
    errno.ENFILE: "end other programs, or use fewer workers",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a folder",
    errno.ENOENT: _LOCATION,
    errno.ELOOP: _LOCATION,
    errno.EINVAL: _LOCATION,
    errno.EEXIST: "remove it or choose another name",
    errno.ENOTEMPTY: "remove it or choose another name",
    errno.ETXTBSY: "end the program that uses it",
    errno.EBUSY: "end the program that uses it",
    errno.EIO: "check the disk, then run the same command again",
    errno.ESTALE: _NETWORK,
    errno.ETIMEDOUT: _NETWORK,
    errno.EHOSTDOWN: _NETWORK,
    errno.ENOMEM: "end other programs, or use fewer workers or smaller batches",
    errno.EAGAIN: "end other programs, or use fewer workers",
}
"""What to do about an error of the operating system."""


def explain(error: Exception) -> str | None:
    """Return a sentence about an error of the machine, and what to do; None if the error is one of ours.

    The machine's errors are those of the operating system, lack of memory, and the end of another process of the run.
    """
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        reason = (error.strerror or errno.errorcode.get(error.errno, "unknown error")).lower()
        return f"{reason}{where}: {_ADVICE.get(error.errno, 'check the path and its disk')}"
    if isinstance(error, torch.OutOfMemoryError):
        return "the memory of the GPU is full: give a smaller --batch-size, or another --device"
    # PyTorch has no type of its own for a CPU without memory
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return "the memory is full: end other programs, or give a smaller --batch-size or fewer --workers"
    if isinstance(error, getattr(torch.distributed, "DistError", ())) or "gloo/transport" in str(error):
        return "another process of this run has ended: see its message, then run the same command to resume"
    return None


def internal_error(error: Exception, program: str) -> str:
    """Write the traceback to a file, and return the sentence about it.

    The file is in the user's cache, or in the folder for temporary files if the cache cannot be written.

    Args:
        error: the error, which nobody expected.
        program: name of the program, for the name of the file.
    """
    message = " ".join(str(error).split())
    message = message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 3]}..."
    text = f"internal error: {type(error).__name__}{f': {message}' if message else ''}"
    path = _write_report(error, program)
    where = f"the traceback is in {path}" if path else "its traceback could not be written"
    return f"{text}; {where}, please report it"


def _write_report(error: Exception, program: str) -> Path | None:
    name = f"{program}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    command = " ".join(sys.argv)
    packages = ", ".join(f"{package} {version}" for package, version in versions().items())
    lines = [f"{command}\n", f"Python {sys.version}\n{packages}\n\n", *traceback.format_exception(error)]
    for folder in (cache_folder() / "errors", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return None
