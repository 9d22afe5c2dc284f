"""Sections of numbers: scores, loss curves, confusion matrix, classes, settings.

Scores are given by seed. For several seeds, cells show means over seeds, and the section says so.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from mol_fast.metrics import FAILURE, MOVING, FlowScores, LandmarkScores, Recognition, Scores
from mol_fast.report.figures import curves_png
from mol_fast.report.html import Html, element, notice, picture, section, table
from mol_fast.report.spread import count, over_seeds, spread
from mol_fast.vision.facs import PRESENT, UNIT_NAMES, UNITS

_SYNTHETIC = (
    "These scores come from generated videos of known motion. They show whether training works; they are not "
    "micro-expression accuracy and must not be reported as such."
)


def synthetic_notice() -> Html:
    """Return the notice that must stand above every score of generated videos."""
    return notice("Synthetic data.", _SYNTHETIC)


def score_section(scores: Mapping[int, Scores]) -> Html:
    """Show recognition, flow and landmark scores side by side, as far as they exist."""
    items = scores.values()
    parts = [_recognition([item.recognition for item in items])]
    if flow := [item.flow for item in items if item.flow is not None]:
        parts.append(_flow(flow))
    if landmarks := [item.landmarks for item in items if item.landmarks is not None]:
        parts.append(_landmarks(landmarks))
    text = f"Mean ± standard deviation {over_seeds(scores)}; zero flow and numbers of videos and frames: the mean."
    note = [element("p", text, class_="note")] if len(scores) > 1 else []
    return section("Scores", *note, element("div", *parts, class_="columns"))


def loss_section(losses: Sequence[Mapping[str, object]] | pd.DataFrame, trainings: int = 1) -> Html:
    """Plot each column over the column `step`. Columns without a finite number are ignored.

    Args:
        losses: a row per step.
        trainings: number of trainings that each row is averaged over.

    Raises:
        ValueError: `losses` has no column `step`.
    """
    rows = pd.DataFrame(losses).apply(pd.to_numeric, errors="coerce").replace([math.inf, -math.inf], math.nan)
    rows = rows.dropna(axis="columns", how="all")
    if rows.columns.drop("step", errors="ignore").empty:
        return section("Losses", element("p", "No losses were recorded."))
    if "step" not in rows:
        raise ValueError("losses must have a column step")
    light = "as recorded" if trainings == 1 else f"mean over {trainings} trainings"
    note = element("p", f"Light: {light}; dark: running mean.", class_="note")
    return section("Losses", picture(curves_png(rows), alt="Loss terms over the training steps"), note)


def class_section(recognition: Mapping[int, Recognition]) -> Html:
    """Show the confusion matrix beside the scores of each class."""
    text = "Confusion matrix in videos, with shares of the videos of the true class."
    if len(recognition) > 1:
        text += f" Both tables: means {over_seeds(recognition)}; ± is the standard deviation."
    items = list(recognition.values())
    columns = element("div", _confusion(items), _classes(items), class_="columns")
    return section("Classes", element("p", text, class_="note"), columns)


def unit_sections(scores: Mapping[int, Scores]) -> list[Html]:
    """Show the scores of each action unit; no section if none were predicted, or none are annotated."""
    items = [item.units for item in scores.values() if item.units is not None]
    if not items:
        return []
    rows = [
        (
            f"{one[0].name}, {UNIT_NAMES[unit]}",
            count([item.videos for item in one]),
            count([item.predicted for item in one]),
            spread([item.recall for item in one]),
            spread([item.precision for item in one]),
            spread([item.f1 for item in one]),
        )
        for unit, one in zip(UNITS, zip(*(item.per_unit for item in items), strict=True), strict=True)
    ]
    text = (
        f"Beyond the paper. {count([item.videos for item in items])} videos have annotated action units; a unit is "
        f"predicted if its probability, the mean over the windows of a video, is at least {PRESENT}. Mean F1 over the "
        f"units that occur: {spread([item.f1 for item in items])}."
    )
    if len(items) > 1:
        text += f" Means {over_seeds(scores)}; ± is the standard deviation."
    head = ("action unit", "videos", "predicted", "recall", "precision", "F1")
    return [section("Action units", element("p", text, class_="note"), table(head, rows))]


def settings_section(title: str, settings: Mapping[str, object]) -> Html:
    """Show names and values in two columns. Names of nested mappings are joined by dots."""
    return section(title, table((), _flatten(settings), class_="settings"))


def _recognition(scores: Sequence[Recognition]) -> Html:
    rows = [
        ("accuracy (WAR)", spread([item.accuracy for item in scores])),
        ("UF1", spread([item.uf1 for item in scores])),
        ("UAR", spread([item.uar for item in scores])),
        ("WF1", spread([item.wf1 for item in scores])),
    ]
    videos = count([sum(map(sum, item.confusion)) for item in scores])
    return table((f"recognition, {videos} videos", ""), rows)


def _flow(scores: Sequence[FlowScores]) -> Html:
    rows = [
        ("all pixels", *_flow_cells([(item.error, item.zero_error) for item in scores])),
        (
            f"moving pixels (> {MOVING} px)",
            *_flow_cells([(item.moving_error, item.moving_zero_error) for item in scores]),
        ),
    ]
    return table(("end-point error, px", "model", "zero flow", "model / zero"), rows)


def _flow_cells(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[str, str, str]:
    zero = [zero_error for _, zero_error in pairs if zero_error is not None]
    shares = [100 * error / zero_error for error, zero_error in pairs if error is not None and zero_error]
    mean = f"{statistics.fmean(zero):.3f}" if zero else "n/a"
    return spread([error for error, _ in pairs]), mean, spread(shares, ".0f", " %")


def _landmarks(scores: Sequence[LandmarkScores]) -> Html:
    rows = [
        ("mean error (inter-ocular)", spread([item.error for item in scores], ".2f", " %")),
        (f"failure rate (> {FAILURE:.0f} %)", spread([100 * item.failure_rate for item in scores], ".1f", " %")),
    ]
    return table((f"landmarks, {count([item.frames for item in scores])} frames", ""), rows)


def _confusion(recognition: Sequence[Recognition]) -> Html:
    classes = recognition[0].classes
    head = ("true, predicted →", *classes)
    body = []
    for true, name in enumerate(classes):
        rows = [item.confusion[true] for item in recognition]
        total = sum(map(sum, rows))
        cells = (_confusion_cell(counts, total) for counts in zip(*rows, strict=True))
        body.append(element("tr", element("th", name, scope="row"), *cells))
    columns = (element("th", name, scope="col") for name in head)
    header = element("thead", element("tr", *columns))
    return element("table", header, element("tbody", *body), class_="confusion")


def _confusion_cell(counts: Sequence[int], total: int) -> Html:
    share = sum(counts) / total if total else 0.0
    shade = ", ".join(str(round(255 + (0.06 + 0.94 * share) * (full - 255))) for full in (31, 95, 168))
    style = f"background: rgb({shade}); color: {'#fff' if share > 0.5 else '#1d2530'}"
    return element("td", count(counts), element("small", f"{100 * share:.0f} %"), style=style)


def _classes(recognition: Sequence[Recognition]) -> Html:
    rows = [
        (
            scores[0].name,
            count([item.videos for item in scores]),
            count([item.predicted for item in scores]),
            spread([item.recall for item in scores]),
            spread([item.precision for item in scores]),
            spread([item.f1 for item in scores]),
        )
        for scores in zip(*(item.per_class for item in recognition), strict=True)
    ]
    return table(("class", "videos", "predicted", "recall", "precision", "F1"), rows)


def _flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", value
