"""Results of a fold: windows.csv, scores.json and samples.safetensors, written and read."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor

from mol_fast.metrics import Evaluation, FlowSums, LandmarkSums, Scores
from mol_fast.runs.folder import CONFIG, SAMPLES, SCORES, WINDOWS
from mol_fast.runs.sample import Sample
from mol_fast.runs.selection import Scoring, read_scoring
from mol_fast.runs.windows_table import read_windows, windows_table
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import check_classes, shown
from mol_fast.utils.schema import Text, parse_json, read_json
from mol_fast.utils.sealed import pack, read_sealed_json, sealed_json, unpack

ADVICE = "repeat the command that made it, which makes this fold again"
_KIND = "sha256:"
"""Stands before every checksum in scores.json."""
_PICTURES = (
    *("first_frame", "frame", "landmarks_true", "landmarks_predicted", "flow_true", "flow_predicted"),
    "attribution",
)


@dataclass(frozen=True)
class FoldResults:
    """Predictions of the held-out clips of a fold.

    Attributes:
        evaluation: the predictions.
        samples: some clips as pictures.
        chosen: scoring at the step chosen by --selection test, or None.
        weights: SHA-256 checksum of the weights file of the fold; None if nothing was trained.
        calibrated: the same once the file tells its temperature; None if the run was not calibrated.
        steps: SHA-256 checksum of metrics.csv; None if nothing was trained.
    """

    evaluation: Evaluation
    samples: tuple[Sample, ...]
    chosen: Scoring | None = None
    weights: str | None = None
    steps: str | None = None
    calibrated: str | None = None

    def write(self, folder: Path) -> None:
        """Write all files to `folder`. scores.json comes last and marks the fold as finished."""
        evaluation = self.evaluation
        windows = windows_table(evaluation).encode()
        write_atomic(folder / WINDOWS, windows)
        write_atomic(folder / SAMPLES, _pack_samples(self.samples))
        scores: dict[str, Any] = {
            "fold": folder.name,
            "classes": evaluation.classes,
            "scores": evaluation.compute().to_dict(),
            "sums": evaluation.sums(),
        }
        checksums = {
            "windows": hashlib.sha256(windows).hexdigest(),
            "weights": self.weights,
            "calibrated": self.calibrated,
            "steps": self.steps,
        }
        scores |= {name: f"{_KIND}{value}" for name, value in checksums.items() if value}
        if self.chosen:
            scores["chosen_step"] = self.chosen.step
        write_atomic(folder / SCORES, sealed_json(scores))

    @classmethod
    def read(cls, folder: Path) -> "FoldResults | None":
        """Read the results in `folder`; None if the fold is unfinished.

        Raises:
            UserError: a file is damaged, or the files do not belong together.
        """
        if not (folder / SCORES).exists():
            return None
        stored = read_sealed_json(folder / SCORES, _Stored, ADVICE)
        if stored.fold not in (None, folder.name):
            raise UserError(f"{folder / SCORES}: the results of the fold {shown(stored.fold)}; {ADVICE}")
        try:
            windows = (folder / WINDOWS).read_bytes()
            if stored.windows not in (None, hashlib.sha256(windows).hexdigest()):
                raise ValueError(f"it is not the table that {SCORES} was written with")
            rows = read_windows(windows.decode(), stored.classes, lambda: _sources(folder))
            evaluation = Evaluation.restored(stored.classes, rows, stored.sums.flow, stored.sums.landmarks)
            _check_scores(stored.scores, evaluation)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / WINDOWS}: {error}; {ADVICE}") from None
        chosen = None if stored.chosen_step is None else read_scoring(folder, stored.chosen_step)
        return cls(
            evaluation, _unpack_samples(folder / SAMPLES), chosen, stored.weights, stored.steps, stored.calibrated
        )


class _Sums(msgspec.Struct):
    flow: FlowSums
    landmarks: LandmarkSums


class _Stored(msgspec.Struct):
    """Content of scores.json. Earlier versions wrote neither the name of the fold nor checksums of its files."""

    classes: Annotated[list[Text], msgspec.Meta(min_length=1)]
    scores: Scores
    sums: _Sums
    fold: str | None = None
    windows: str | None = None
    weights: str | None = None
    calibrated: str | None = None
    steps: str | None = None
    chosen_step: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        check_classes(self.classes)
        for name in ("windows", "weights", "calibrated", "steps"):
            if value := getattr(self, name):
                setattr(self, name, value.removeprefix(_KIND))


class _Told(msgspec.Struct):
    """What samples.safetensors tells of a sample. Earlier versions told neither its source nor what explains it."""

    subject: str
    video: str
    label: str
    predicted: str
    probabilities: dict[str, float]
    note: str = ""
    source: str = ""
    regions: dict[str, float] = {}
    sentence: str = ""


class _Run(msgspec.Struct):
    sources: list[str]


def _sources(folder: Path) -> list[str]:
    """Return the sources of the run that the fold in `folder` belongs to."""
    return read_json(folder.parent.parent / CONFIG, _Run, "restore it").sources


def _check_scores(stored: Scores, evaluation: Evaluation) -> None:
    """Raise ValueError if `stored` are not the scores of `evaluation`."""
    scores = evaluation.compute()
    there, here = stored.summary(), scores.summary()
    differing = [name for name in there.keys() | here.keys() if not _agree(there.get(name), here.get(name))]
    if differing or stored.recognition.confusion != scores.recognition.confusion:
        what = ", ".join(sorted(differing)) or "confusion"
        raise ValueError(f"windows and sums give other scores than {SCORES} says ({what})")


def _agree(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _pack_samples(samples: Sequence[Sample]) -> bytes:
    tensors: dict[str, Tensor] = {}
    texts = []
    for index, sample in enumerate(samples):
        pictures = {name: getattr(sample, name) for name in _PICTURES}
        tensors |= {
            f"{index}.{name}": torch.as_tensor(values) for name, values in pictures.items() if values is not None
        }
        values = {field.name: getattr(sample, field.name) for field in fields(sample)}
        texts.append({name: value for name, value in values.items() if name not in _PICTURES})
    return pack(tensors, {"samples": json.dumps(texts)})


def _unpack_samples(path: Path) -> tuple[Sample, ...]:
    try:
        tensors, metadata = unpack(path)
        samples = []
        for index, told in enumerate(parse_json(metadata["samples"], list[_Told], path, ADVICE)):
            found = {name: tensors.get(f"{index}.{name}") for name in _PICTURES}
            pictures: dict[str, Any] = {name: None if value is None else value.numpy() for name, value in found.items()}
            samples.append(Sample(**{**msgspec.structs.asdict(told), **pictures}))
        return tuple(samples)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {ADVICE}") from None
