"""Results of a fold: windows.csv, scores.json and samples.safetensors, written and read."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.runs.folder import SAMPLES, SCORES, WINDOWS
from mol_fast.runs.sample import Sample
from mol_fast.runs.selection import Scoring, read_scoring
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.sealed import check_digest, pack, sealed_json, unpack
from mol_fast.utils.tables import csv_table

_PICTURES = ("first_frame", "frame", "landmarks_true", "landmarks_predicted", "flow_true", "flow_predicted")


@dataclass(frozen=True)
class FoldResults:
    """Predictions of the held-out clips of a fold.

    Attributes:
        evaluation: the predictions.
        samples: some clips as pictures.
        chosen: scoring at the step chosen by --selection test, or None.
    """

    evaluation: Evaluation
    samples: tuple[Sample, ...]
    chosen: Scoring | None = None

    def write(self, folder: Path) -> None:
        """Write all files to `folder`. scores.json comes last and marks the fold as finished."""
        evaluation = self.evaluation
        windows = _windows_table(evaluation).encode()
        write_atomic(folder / WINDOWS, windows)
        write_atomic(folder / SAMPLES, _pack_samples(self.samples))
        scores: dict[str, Any] = {
            "classes": evaluation.classes,
            "scores": evaluation.compute().to_dict(),
            "sums": evaluation.sums(),
        }
        scores["windows"] = _digest(windows)
        if self.chosen:
            scores["chosen_step"] = self.chosen.step
        write_atomic(folder / SCORES, sealed_json(scores))

    @classmethod
    def read(cls, folder: Path) -> "FoldResults | None":
        """Read the results in `folder`; None if the fold is unfinished or a file is damaged.

        A table of windows that differs from the one that scores.json was written with counts as damaged.
        """
        try:
            check_digest(folder / SCORES)
            scores = json.loads((folder / SCORES).read_text())
            windows = (folder / WINDOWS).read_bytes()
            if _digest(windows) != scores.get("windows", _digest(windows)):
                return None
            rows = _read_windows(windows.decode(), scores["classes"])
            evaluation = Evaluation.restored(scores["classes"], rows, scores["sums"])
            samples = _unpack_samples(folder / SAMPLES)
            chosen = read_scoring(folder, scores["chosen_step"]) if "chosen_step" in scores else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            return None
        return cls(evaluation, samples, chosen)


def _windows_table(evaluation: Evaluation) -> str:
    """Return a table with one row per window: video, window number, true and predicted class, probabilities."""
    rows = []
    seen: dict[Any, int] = {}
    for window in evaluation.windows():
        number = seen[window.video] = seen.get(window.video, -1) + 1
        best = max(range(len(window.probabilities)), key=window.probabilities.__getitem__)
        names = {"label": evaluation.classes[window.label], "predicted": evaluation.classes[best]}
        row = {"video": window.video, "window": number, **names}
        rows.append(row | dict(zip(evaluation.classes, map(repr, window.probabilities), strict=True)))
    return csv_table(rows, ["video", "window", "label", "predicted", *evaluation.classes])


def _read_windows(text: str, classes: Sequence[str]) -> list[LabelledWindow]:
    return [
        LabelledWindow(row["video"], classes.index(row["label"]), tuple(float(row[name]) for name in classes))
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


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
    tensors, metadata = unpack(path)
    texts: list[Mapping[str, Any]] = json.loads(metadata["samples"])

    def pictures(index: int) -> dict[str, Any]:
        found = {name: tensors.get(f"{index}.{name}") for name in _PICTURES}
        return {name: None if value is None else value.numpy() for name, value in found.items()}

    return tuple(Sample(**text, **pictures(index)) for index, text in enumerate(texts))
