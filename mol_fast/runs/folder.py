"""The folder of a run: names of its files, its folds, its configuration.

RUN/config.json           settings, and the identity that a resumed run must share
RUN/folds/FOLD/           results of one fold
RUN/scores.json, ...      the folds pooled, see `mol_fast.runs.pooled`
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import LONGEST_FILE, Subject, check_folder_name, safe_folder, shortened, shown
from mol_fast.utils.schema import Count, Text, check_unique, read_json
from mol_fast.utils.sealed import DamagedFile, check_digest, sealed_json

CONFIG = "config.json"
"""Configuration of a run, and of each fold, with a digest."""
STEPS = "metrics.csv"
WINDOWS, SCORES, SAMPLES = "windows.csv", "scores.json", "samples.safetensors"
_DIGESTS = {"labels": "its videos or labels were others", "content": "the content of its video files was another"}
"""Parts of the identity that are digests, in words."""


class Fold(msgspec.Struct, frozen=True):
    """One training: the held-out subjects, and the seed of everything random. config.json of a run lists its folds.

    Attributes:
        name: name of the fold's folder.
        seed: the seed.
        subjects: the held-out subjects; empty in runs of earlier versions, whose config.json has the name alone.
    """

    name: str
    seed: Count
    subjects: tuple[Subject, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_folder_name(self.name, "the name of a fold", LONGEST_FILE)
        except UserError as error:
            raise ValueError(str(error)) from None
        if not self.name.endswith(f"-seed{self.seed}"):
            raise ValueError(f"the fold {shown(self.name)} has the seed {self.seed}")

    @classmethod
    def of(cls, subjects: Sequence[Subject], seed: int, sources: int = 1) -> "Fold":
        """Return the fold of `subjects` and `seed`.

        Its folder is named after subjects and seed: s01+s02-seed0. With data of several `sources`, they are named too:
        casme2.sub01-seed0. Names with special characters, and long ones, end with a digest.
        """
        parts = [".".join(map(safe_folder, subject if sources > 1 else subject[1:])) for subject in subjects]
        ending = f"-seed{seed}"
        return cls(shortened("+".join(parts), LONGEST_FILE - len(ending)) + ending, seed, tuple(subjects))

    @classmethod
    def of_sets(cls, names: Sequence[str], subjects: Sequence[Subject], seed: int) -> "Fold":
        """Return the fold of `subjects` whose folder is called after sets: dfme+samm-seed0."""
        ending = f"-seed{seed}"
        parts = "+".join(map(safe_folder, names))
        return cls(shortened(parts, LONGEST_FILE - len(ending)) + ending, seed, tuple(subjects))

    @classmethod
    def of_earlier(cls, name: str) -> "Fold":
        """Return a fold of an earlier version, of which only the name of the folder is known.

        Raises:
            ValueError: the name does not end with a seed, or is not the name of a folder.
        """
        _, found, seed = name.rpartition("-seed")
        if not found or not (seed.isascii() and seed.isdecimal() and len(seed) <= len(str(2**31))):
            raise ValueError(f"the fold {shown(name)} does not end with a seed")
        return cls(name, int(seed))


class RunConfig(msgspec.Struct):
    """Content of config.json of a run, as far as it is read again.

    Attributes:
        settings, model: settings of the training and of the model.
        sources: sources of the videos.
        folds: every fold; in runs of earlier versions the names of the folders.
        environment: versions and hardware.
        identity: values that a resumed run must share.
        subjects: what to call the subjects.
        warnings: warnings to show wherever the scores are.
        evaluated: the run that this folder holds scores of, if it is no run itself.
    """

    settings: dict[str, Any]
    model: dict[str, Any]
    sources: Annotated[list[Text], msgspec.Meta(min_length=1)]
    folds: Annotated[list[Fold | str], msgspec.Meta(min_length=1)]
    environment: dict[str, Any]
    identity: dict[str, Any] = {}
    subjects: str = "held-out subjects"
    warnings: list[str] = []
    evaluated: str | None = None

    def __post_init__(self) -> None:
        self.folds = [Fold.of_earlier(fold) if isinstance(fold, str) else fold for fold in self.folds]
        check_unique((fold.name.casefold() for fold in self.every_fold()), "fold")
        if "steps" not in self.settings:
            raise ValueError("the settings do not say the steps")

    def every_fold(self) -> list[Fold]:
        """Return all folds."""
        return [fold for fold in self.folds if isinstance(fold, Fold)]


class _Identified(msgspec.Struct):
    identity: dict[str, Any]
    folds: list[Fold | str] = []

    def folders(self) -> list[str]:
        return [fold if isinstance(fold, str) else fold.name for fold in self.folds]

    def held_out(self) -> dict[str, tuple[str, ...]]:
        """Return the held-out subjects of each fold that tells them, by its folder."""
        folds = (fold for fold in self.folds if isinstance(fold, Fold) and fold.subjects)
        return {fold.name: tuple(map(str, fold.subjects)) for fold in folds}


def fold_folder(path: Path, fold: Fold) -> Path:
    """Return the folder of `fold` in the run folder `path`."""
    return path / "folds" / fold.name


def check_config(path: Path) -> None:
    """Check that config.json of the folder of a run or a fold is as it was written, if there is one with a digest.

    Raises:
        UserError: it is damaged, or somebody changed it.
    """
    config = path / CONFIG
    try:
        if config.is_file():
            check_digest(config)
    except DamagedFile as error:
        raise UserError(
            f"{config}: {error}; restore it, or, if you changed it on purpose, remove its line that starts with "
            '"digest"'
        ) from None
    except OSError as error:
        raise UserError(f"{config}: cannot be read ({(error.strerror or str(error)).lower()}); restore it") from None


def open_run(path: Path, about: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Create the folder of a run, or check that an existing run has the same configuration, to resume it.

    Raises:
        UserError: the folder cannot be created, or holds something else or a run of another configuration.
    """
    differing = open_folder(path, about, identity, "--name")
    if differing:
        parts = [
            _DIGESTS.get(key, f"{key} is {there} there and {here} here") for key, (there, here) in differing.items()
        ]
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
        The differences of identity and of the folders of folds, as name: (value there, value here). Empty for a new
        folder.

    Raises:
        UserError: the folder holds something else, or cannot be created, or its config.json was changed.
    """
    config = path / CONFIG
    values = json.loads(json.dumps({**about, "identity": identity}, default=str))
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            others = [file for file in path.iterdir() if not file.name.endswith(".tmp")]
            if others and not config.exists():  # another process may just have created it
                raise UserError(f"{path} is not empty and not a run: choose another {option}, or remove it")
            write_atomic(config, sealed_json(values))
            return {}
    except OSError as error:
        raise UserError(f"the folder {path} cannot be used ({error}): choose another --out") from error
    check_config(path)
    there = read_json(config, _Identified, f"choose another {option}, or remove {path}")
    here = msgspec.convert(values, _Identified)
    names = {*there.identity, *here.identity}
    if "content" not in there.identity:  # earlier versions did not tell it
        names.discard("content")
    pairs = {name: (there.identity.get(name), here.identity.get(name)) for name in sorted(names)}
    pairs["folders"] = there.folders(), here.folders()  # earlier versions named some of them otherwise
    told = there.held_out(), here.held_out()  # two sets of one source make folders of the same name
    pairs["held_out"] = told if all(told) else (None, None)
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
