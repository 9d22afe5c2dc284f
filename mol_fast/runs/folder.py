"""The folder of a run: the names of its files, its folds, and its configuration.

RUN/config.json           what was asked for, and the identity that a resumed run must share
RUN/folds/FOLD/           what one fold leaves behind
RUN/scores.json, ...      the folds pooled, see `mol_fast.runs.pooled`
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic

CONFIG = "config.json"
"""Of a run, and of each of its folds."""
STEPS = "metrics.csv"
WINDOWS, SCORES, SAMPLES = "windows.csv", "scores.json", "samples.safetensors"


@dataclass(frozen=True)
class Fold:
    """One training: the subjects held out, and the seed of everything random."""

    subjects: tuple[str, ...]
    seed: int

    @classmethod
    def from_name(cls, name: str) -> "Fold":
        """The fold whose folder has this name, with its subjects as they are spelled there.

        Raises:
            ValueError: the name does not end with a seed.
        """
        subjects, _, seed = name.rpartition("-seed")
        return cls(tuple(subjects.split("+")), int(seed))

    @property
    def name(self) -> str:
        """Name of its folder: the subjects, with characters that do not belong there replaced, and the seed."""
        subjects = "+".join(self.subjects)
        return "".join(c if c.isalnum() or c in "+-_." else "_" for c in subjects) + f"-seed{self.seed}"


def fold_folder(path: Path, fold: Fold) -> Path:
    """Where the results of `fold` are in the run folder `path`."""
    return path / "folds" / fold.name


def open_run(path: Path, about: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Make the folder of a run, or check that the one there is of the same configuration, to go on with it.

    Raises:
        UserError: the folder holds something else, or a run of another configuration; or cannot be made.
    """
    differing = open_folder(path, about, identity, "--name")
    if differing:
        parts = [f"{key} is {there} there and {here} here" for key, (there, here) in differing.items()]
        raise UserError(f"{path} is a run of another configuration, choose another --name: {'; '.join(parts)}")


def open_folder(
    path: Path, about: Mapping[str, Any], identity: Mapping[str, Any], option: str
) -> dict[str, tuple[Any, Any]]:
    """Make a folder of results with its config.json, or read the one there.

    Args:
        path: the folder.
        about: content of config.json, to which "identity" is added.
        identity: what the results have in common with others that may be written to the same folder.
        option: of the command line, that chooses the folder.

    Returns:
        What of the identity differs: its value there and here, by name; nothing for a new folder.

    Raises:
        UserError: the folder holds something else, or cannot be made.
    """
    config = path / CONFIG
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            others = [file for file in path.iterdir() if not file.name.endswith(".tmp")]
            if others and not config.exists():  # another process may just have made it
                raise UserError(f"{path} is not empty and not a run: choose another {option}, or remove it")
            values = {**about, "identity": identity}
            write_atomic(config, json.dumps(values, indent=2, default=str) + "\n")
            return {}
        stored = dict(json.loads(config.read_text())["identity"])
    except OSError as error:
        raise UserError(f"the folder {path} cannot be used ({error}): choose another --out") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config} cannot be read: choose another {option}, or remove {path}") from error
    wanted = json.loads(json.dumps(identity, default=str))
    names = sorted({*stored, *wanted})
    pairs = {name: (stored.get(name), wanted.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
