"""The folder of a run: names of its files, its folds, its configuration.

RUN/config.json           settings, and the identity that a resumed run must share
RUN/folds/FOLD/           results of one fold
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
"""Configuration of a run, and of each fold."""
STEPS = "metrics.csv"
WINDOWS, SCORES, SAMPLES = "windows.csv", "scores.json", "samples.safetensors"


@dataclass(frozen=True)
class Fold:
    """One training: the held-out subjects, and the seed of everything random."""

    subjects: tuple[str, ...]
    seed: int

    @classmethod
    def from_name(cls, name: str) -> "Fold":
        """Parse the name of a fold's folder. Subjects keep the spelling of the folder.

        Raises:
            ValueError: the name does not end with a seed.
        """
        subjects, _, seed = name.rpartition("-seed")
        return cls(tuple(subjects.split("+")), int(seed))

    @property
    def name(self) -> str:
        """Name of the fold's folder: subjects and seed, with unsafe characters replaced by "_"."""
        subjects = "+".join(self.subjects)
        return "".join(c if c.isalnum() or c in "+-_." else "_" for c in subjects) + f"-seed{self.seed}"


def fold_folder(path: Path, fold: Fold) -> Path:
    """Return the folder of `fold` in the run folder `path`."""
    return path / "folds" / fold.name


def open_run(path: Path, about: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Create the folder of a run, or check that an existing run has the same configuration, to resume it.

    Raises:
        UserError: the folder cannot be created, or holds something else or a run of another configuration.
    """
    differing = open_folder(path, about, identity, "--name")
    if differing:
        parts = [f"{key} is {there} there and {here} here" for key, (there, here) in differing.items()]
        raise UserError(f"{path} is a run of another configuration ({'; '.join(parts)}): choose another --name")


def open_folder(
    path: Path, about: Mapping[str, Any], identity: Mapping[str, Any], option: str
) -> dict[str, tuple[Any, Any]]:
    """Create a folder of results with config.json, or compare with an existing config.json.

    Args:
        path: the folder.
        about: content of config.json; "identity" is added.
        identity: values that all results in this folder must share.
        option: command-line option that chooses the folder, for messages.

    Returns:
        The differences of identity, as name: (value there, value here). Empty for a new folder.

    Raises:
        UserError: the folder holds something else, or cannot be created.
    """
    config = path / CONFIG
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            others = [file for file in path.iterdir() if not file.name.endswith(".tmp")]
            if others and not config.exists():  # another process may just have created it
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
