"""Generated sets that are kept: made on first use, made again by another version of the generator."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from mol_fast.data.store import PreparedSet, read_info
from mol_fast.utils.errors import UserError


def kept_set(folder: Path, name: str, version: int, generate: Callable[[Path], PreparedSet]) -> PreparedSet:
    """Open a generated set. Generate it first if it is missing, of another version, or lacks files.

    Args:
        folder: its folder.
        name, version: name of the set, and version of its generator.
        generate: makes the set in a folder, and replaces what is there.

    Raises:
        UserError: the folder holds something else, or see `generate`.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return generate(folder)
    info = read_info(folder)
    if info.generator is None or info.name != name:
        raise UserError(f"{folder} holds the set {info.name}; give another folder for the set {name}")
    if info.generator == version:
        with contextlib.suppress(UserError):
            return PreparedSet.open(folder)
    return generate(folder)
