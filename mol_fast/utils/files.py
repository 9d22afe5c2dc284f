"""Files: atomic writes, of which a reader sees the old file or the new one, never a part; checksums; our cache."""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mol_fast.utils.errors import UserError


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` to `path` in one step that survives a crash, see `replacing`.

    Text is encoded as UTF-8 and keeps its line ends.

    Raises:
        OSError: the folder does not exist, cannot be written, or the disk is full.
    """
    with replacing(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a file to write and read that replaces `path` at the end of the context, in one step that survives a crash.

    It is a temporary file in the same folder. It is flushed to disk and renamed, then the folder is flushed, so that
    the new name survives too. If anything fails, the temporary file is removed and `path` is unchanged.

    Raises:
        OSError: the folder does not exist, cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".write-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            yield file
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


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`, which takes its place once the context ends without an error.

    An old folder stays as it is until then. What killed runs left behind is removed after an hour.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary, old = (folder.with_name(f".{folder.name}-{secrets.token_hex(8)}") for _ in range(2))
    _remove_leftovers(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        try:
            temporary.rename(folder)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                old.rename(folder)
            raise
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def check_writable(folder: Path, option: str) -> None:
    """Raise UserError if no file can be written into a folder, which may not exist yet, before hours are spent for it.

    Args:
        folder: the folder.
        option: name of the option that gives it, for the message.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, results need a folder: give another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} cannot be written to: give another {option}, or change its permissions")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 checksum of a file, as hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return our folder in the user's cache, which may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mol-fast"


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        if leftover.is_dir() and time.time() - leftover.stat().st_mtime > 3600:
            shutil.rmtree(leftover, ignore_errors=True)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
