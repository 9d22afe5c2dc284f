"""Generated sets that are kept: made on first use, made again by another version of the generator."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from mol_fast.data.store import PreparedSet, read_info
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import cache_folder
from mol_fast.utils.lock import locked


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
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError):  # no home, or it cannot be written: then `generate` says what is wrong
            file = cache_folder() / f".{folder.resolve().name}.lock"
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(file, f"the set {folder} is being generated", wait=True))
        return _found(folder, name, version) or generate(folder)


def _found(folder: Path, name: str, version: int) -> PreparedSet | None:
    """Open the set if it is there, complete and of this version."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    info = read_info(folder)
    if info.generator is None or info.name != name:
        raise UserError(f"{folder} holds the set {info.name}; give another folder for the set {name}")
    if info.generator == version:
        with suppress(UserError):
            return PreparedSet.open(folder)
    return None
