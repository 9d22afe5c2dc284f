"""Find the file of trained weights: of a path, of the name "general", or of "owner/name", which is downloaded."""

import os
import re
from functools import cache
from pathlib import Path

from mol_fast.nn.hub import download
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256

FILE_NAME = "weights.safetensors"
GENERAL = "general"
"""Name of the weights that come with mol-fast, see `mol_fast/pretrained/general.md`."""
_SHIPPED = (
    Path(__file__).parents[1] / "pretrained" / "general.safetensors",
    "4fe314a24e8ff6a155d036f12fa16983404f62a387ddc033170dcd2a44e3fc39",
)
"""Their file, and its SHA-256."""
AGAIN = "repeat the train command of their run, which trains the fold again"
"""What to do about weights of a run that are damaged or gone."""
_ON_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_NEVER = (
    "may be a pickle, which could run code and is never loaded: give a .safetensors file of mol-fast; weights of the "
    "official code, and of your own training, are read by mol_fast.load_official and mol_fast.load_into"
)


def find_weights(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Find the file of trained weights.

    A path comes first: weights in a file or folder called general in the current folder go before those of mol-fast.
    "owner/name" is a name on the hub only if nothing here has this path, and no folder is called "owner": so a path
    with a slip of the pen is not sent anywhere.

    Args:
        source: a weights file, a folder that `save_pretrained` wrote, the folder of a fold, the folder of a run with
            one fold; "general" for the weights that come with mol-fast; or "owner/name", whose weights are downloaded
            once, which needs the extra `hub`.
        revision: branch, tag or commit of "owner/name". Default: its main branch.

    Raises:
        UserError: there are no weights, there are several, they may be a pickle, cannot be downloaded; or those that
            come with mol-fast are damaged.
        ValueError: `revision` is given with a path.
    """
    path, name = Path(source), os.fspath(source)
    is_file = path.suffix in (".safetensors", *_PICKLES)
    if _ON_HUB.fullmatch(name) and not is_file and not path.exists() and not path.parent.exists():
        return download(name, FILE_NAME, revision)
    if revision is not None:
        raise ValueError(f"revision is for owner/name, not for the path {path}")
    if name == GENERAL and not path.is_file() and not _inside(path):
        return _general()
    return _of_path(path)


def told_name(source: str | os.PathLike[str], file: Path) -> str:
    """Return what weights are called that `find_weights` found: as the user did, but a file of his own by its path."""
    own = os.fspath(source) == GENERAL and file != _SHIPPED[0]
    return str(file) if own else os.fspath(source)


def _general() -> Path:
    """Return the file of the weights that come with mol-fast, after a check of its digest."""
    file, expected = _SHIPPED
    try:
        state = file.stat()
    except OSError:
        raise UserError(
            f"the weights {GENERAL} are not in this installation, {file} is missing: install mol-fast again"
        ) from None
    if (found := _digest(file, state.st_size, state.st_mtime_ns)) != expected:
        raise UserError(
            f"{file} has the SHA-256 {found}, the weights {GENERAL} of this version have {expected}: install mol-fast "
            "again"
        )
    return file


@cache
def _digest(file: Path, *state: int) -> str:
    """Return the SHA-256 of a file in this state; computed once in a process."""
    return file_sha256(file)


def _of_path(path: Path) -> Path:
    """Return the weights file at `path`: the file itself, or that of a fold's folder or of a run with one fold."""
    if path.suffix in _PICKLES and not path.is_dir():
        raise UserError(f"{path} {_NEVER}")
    if path.is_file():
        return path
    found = _inside(path)
    if not found and any([*path.glob("scores.json"), *path.glob("folds/*/scores.json")]):
        raise UserError(f"the weights of {path} are gone, its scores are there: copy them again, or {AGAIN}")
    if not found and (pickles := sorted(file.name for file in path.glob("*") if file.suffix in _PICKLES)):
        raise UserError(f"{path} has no {FILE_NAME}, and {pickles[0]} {_NEVER}")
    if not found:
        raise UserError(f"no weights at {path}: give a .safetensors file or the folder of a finished run, or {GENERAL}")
    if len(found) > 1:
        raise UserError(f"{path} has the weights of {len(found)} folds: give one of them, for example {found[0]}")
    return found[0]


def _inside(folder: Path) -> list[Path]:
    """Return the weights of a folder and of its folds."""
    return sorted([*folder.glob(FILE_NAME), *folder.glob(f"folds/*/{FILE_NAME}")])
