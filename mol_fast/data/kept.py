"""Generated sets that are kept: made on first use, made again by another version of the generator."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from mol_fast.data.store import PreparedSet, read_info
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import cache_folder
from mol_fast.utils.lock import locked
from mol_fast.utils.processes import check_importable


def kept_set(folder: Path, name: str, version: int, generate: Callable[[Path], PreparedSet]) -> PreparedSet:
    """Open a generated set. Generate it first if it is missing, of another version, or lacks files.

    Of several processes that need it at once, one generates it and the others wait.

    Args:
        folder: its folder.
        name, version: name of the set, and version of its generator.
        generate: makes the set in a folder, and replaces what is there.

    Raises:
        UserError: the folder holds something else, or see `generate`.
    """
    if found := _found(folder, name, version):
        return found
    check_importable(f"generating the set {name}")  # or it would wait for the lock of its parent, which waits for it
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError):  # no home, or it cannot be written: then `generate` says what is wrong
            file = cache_folder() / f".{folder.resolve().name}.lock"
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(file, f"the set {folder} is being generated", wait=True))
        return _found(folder, name, version) or generate(folder)


def check_replaceable(folder: Path) -> None:
    """Raise UserError if a folder that is to be replaced by a set holds anything but a prepared set."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "set.json").is_file()):
        what = "a file" if folder.is_file() else "not empty, and holds no prepared set"
        raise UserError(f"{folder} is {what}: give a new folder")


def _found(folder: Path, name: str, version: int) -> PreparedSet | None:
    """Open the set if it is there, complete and of this version."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / "set.json").is_file():
        raise UserError(f"{folder} is in the place of the generated set {name}: remove or rename it")
    info = read_info(folder)
    if info.generator is None or info.name != name:
        raise UserError(f"{folder} holds the set {info.name}; give another folder for the set {name}")
    if info.generator == version:
        with suppress(UserError):
            return PreparedSet.open(folder)
    return None
