"""windows.csv of a fold: a row per window, with its video, its true and predicted class, and the probabilities.

A column of probabilities is called p_CLASS, so that no name of a class is that of another column. If action units were
predicted, au1, ... is the probability of each, and au1_true, ... what the annotation says: 1, 0, or empty if unknown.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.utils.names import VideoId
from mol_fast.utils.tables import csv_table, read_csv_table
from mol_fast.vision.facs import UNITS, UNKNOWN

_VIDEO = ("source", "subject", "video")
_COLUMNS = ("window", "label", "predicted")
_UNITS = tuple(f"au{unit}" for unit in UNITS)
_TRUTH = {UNKNOWN: "", 0: "0", 1: "1"}
_SLACK = 1e-6
"""Largest error of a sum of probabilities."""


def video_columns(video: VideoId) -> dict[str, str]:
    """Return the columns of a table that identify a video."""
    return dict(zip(_VIDEO, video, strict=True))


def probability_columns(classes: Sequence[str], probabilities: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of a table with one probability per class."""
    return {f"p_{name}": value for name, value in zip(classes, probabilities, strict=True)}


def unit_columns(probabilities: Sequence[Any], truth: Sequence[int]) -> dict[str, Any]:
    """Return the columns of a table with the probability of each action unit and its truth; none without units."""
    if not probabilities:
        return {}
    told = {f"{name}_true": _TRUTH[value] for name, value in zip(_UNITS, truth, strict=True)}
    return dict(zip(_UNITS, probabilities, strict=True)) | told


def windows_table(evaluation: Evaluation) -> str:
    """Return the table of all windows of a fold."""
    classes = evaluation.classes
    rows = []
    seen: dict[VideoId, int] = {}
    for window in evaluation.windows():
        number = seen[window.video] = seen.get(window.video, -1) + 1
        best = max(range(len(classes)), key=window.probabilities.__getitem__)
        names = {"window": number, "label": classes[window.label], "predicted": classes[best]}
        units = unit_columns(window.units, window.units_true)
        rows.append(video_columns(window.video) | names | probability_columns(classes, window.probabilities) | units)
    return csv_table(rows, list(rows[0]) if rows else [*_VIDEO, *_COLUMNS, *probability_columns(classes, classes)])


def read_windows(text: str, classes: Sequence[str], sources: Callable[[], Sequence[str]]) -> list[LabelledWindow]:
    """Return the windows of a table.

    Args:
        text: the table.
        classes: the classes, in the order of the labels.
        sources: returns the sources of the run's videos, for tables of earlier versions, which do not tell them.

    Raises:
        ValueError: the table is damaged, or of an earlier version and does not tell the source of a video.
    """
    rows = read_csv_table(text)
    columns = [*_VIDEO, *_COLUMNS, *(f"p_{name}" for name in classes)]
    earlier = bool(rows) and list(rows[0]) == ["video", *_COLUMNS, *classes]
    if with_units := bool(rows) and _UNITS[0] in rows[0]:
        columns += [*_UNITS, *(f"{name}_true" for name in _UNITS)]
    if rows and not earlier and list(rows[0]) != columns:
        raise ValueError(f"the columns are {', '.join(rows[0])}, must be {', '.join(columns)}")
    known = sources() if earlier else ()
    windows = []
    for line, row in enumerate(rows, start=2):
        values = tuple(_probability(row[name if earlier else f"p_{name}"], line) for name in classes)
        if row["label"] not in classes or abs(sum(values) - 1) > _SLACK:
            raise ValueError(f"line {line} has no class {row['label']}, or its probabilities do not add up to 1")
        video = _earlier(row["video"], known) if earlier else VideoId(*(row[name] for name in _VIDEO))
        units = _read_units(row, line) if with_units else ((), ())
        windows.append(LabelledWindow(video, classes.index(row["label"]), values, *units))
    return windows


def _read_units(row: Mapping[str, str], line: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the probability of each action unit in a row, and its truth."""
    truth = {text: value for value, text in _TRUTH.items()}
    told = [row[f"{name}_true"] for name in _UNITS]
    if not truth.keys() >= {*told}:
        raise ValueError(f"line {line} has a truth of action units other than 1, 0 and nothing")
    return tuple(_probability(row[name], line) for name in _UNITS), tuple(truth[text] for text in told)


def _probability(text: str, line: int) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"line {line} has the probability {text}")
    return value


def _earlier(text: str, sources: Sequence[str]) -> VideoId:
    """Return the video of a row of earlier versions, which joined SUBJECT/VIDEO, or SOURCE/SUBJECT/VIDEO."""
    subject, _, name = text.rpartition("/")
    if len(sources) == 1:
        return VideoId(sources[0], subject.removeprefix(f"{sources[0]}/"), name)
    found = [source for source in sources if subject.startswith(f"{source}/")]
    if len(found) != 1:
        raise ValueError("the table is of an earlier version and does not tell the sources of its videos apart")
    return VideoId(found[0], subject.removeprefix(f"{found[0]}/"), name)
