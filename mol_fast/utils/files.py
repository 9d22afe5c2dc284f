"""Writing files so that a reader sees the old content or the new one, never a part."""

import contextlib
import os
import secrets
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write ``data`` to ``path``, replacing what is there in one step that survives a crash.

    The data go to a temporary file in the same folder, are flushed to the disk and renamed; then the folder
    is flushed, so that the new name lasts too. Text is encoded as UTF-8, line ends are kept as given. If
    anything fails, the temporary file is removed and ``path`` is as it was.

    Raises:
        OSError: the folder does not exist, cannot be written, or the disk is full.
    """
    target = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = target.with_name(f".write-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = os.fspath(target)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
