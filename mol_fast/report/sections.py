"""Sections of numbers: scores, loss curves, confusion matrix, classes, settings."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from mol_fast.metrics import FAILURE, MOVING, FlowScores, LandmarkScores, Recognition, Scores
from mol_fast.report.figures import curves_png
from mol_fast.report.html import Html, element, picture, section, table

_SYNTHETIC = (
    "These scores were obtained on the embedded synthetic set, made from photographs by known motion. They show "
    "whether training works; they are not micro-expression accuracy and must not be reported as such."
)


def synthetic_notice() -> Html:
    """The statement that must stand above every score of the embedded set."""
    return notice("Synthetic data.", _SYNTHETIC)


def notice(title: str, text: str) -> Html:
    """A statement that must not be overlooked, for the top of a report."""
    return element("p", element("strong", f"{title} "), text, class_="notice", role="note")


def score_section(scores: Scores, title: str = "Scores") -> Html:
    """Recognition, flow and landmark scores side by side, those that there are."""
    parts = [_recognition(scores.recognition)]
    if scores.flow is not None:
        parts.append(_flow(scores.flow))
    if scores.landmarks is not None:
        parts.append(_landmarks(scores.landmarks))
    return section(title, element("div", *parts, class_="columns"))


def loss_section(losses: Sequence[Mapping[str, object]] | pd.DataFrame, title: str = "Losses") -> Html:
    """A curve of each column but ``step`` over the step; columns without a finite number are left out.

    Raises:
        ValueError: there are rows without a column ``step``.
    """
    rows = pd.DataFrame(losses).apply(pd.to_numeric, errors="coerce").replace([math.inf, -math.inf], math.nan)
    rows = rows.dropna(axis="columns", how="all")
    if rows.columns.drop("step", errors="ignore").empty:
        return section(title, element("p", "No losses were recorded."))
    if "step" not in rows:
        raise ValueError("losses has no column step")
    note = element("p", "Light: as recorded; dark: running mean.", class_="note")
    return section(title, picture(curves_png(rows), alt="Loss terms over the training steps"), note)


def class_section(recognition: Recognition, title: str = "Classes") -> Html:
    """The confusion matrix beside the scores of each class."""
    note = element("p", "Confusion matrix in videos; the share is of the videos of the true class.", class_="note")
    parts = (_confusion(recognition), _classes(recognition))
    return section(title, note, element("div", *parts, class_="columns"))


def settings_section(title: str, settings: Mapping[str, object]) -> Html:
    """Names and values in two columns; names inside a nested mapping are joined by dots."""
    return section(title, table((), _flatten(settings), class_="settings"))


def _recognition(scores: Recognition) -> Html:
    rows = [
        ("accuracy (WAR)", _number(scores.accuracy)),
        ("UF1", _number(scores.uf1)),
        ("UAR", _number(scores.uar)),
        ("WF1", _number(scores.wf1)),
    ]
    videos = sum(map(sum, scores.confusion))
    return table((f"recognition, {videos} videos", ""), rows)


def _flow(scores: FlowScores) -> Html:
    rows = [
        ("all pixels", *_flow_cells(scores.error, scores.zero_error)),
        (f"moving pixels (> {MOVING} px)", *_flow_cells(scores.moving_error, scores.moving_zero_error)),
    ]
    return table(("end-point error, px", "model", "zero flow", "model / zero"), rows)


def _flow_cells(error: float | None, zero_error: float | None) -> tuple[str, str, str]:
    share = f"{100 * error / zero_error:.0f} %" if error is not None and zero_error else "n/a"
    return _number(error), _number(zero_error), share


def _landmarks(scores: LandmarkScores) -> Html:
    rows = [
        ("mean error (inter-ocular)", f"{scores.error:.2f} %"),
        (f"failure rate (> {FAILURE:.0f} %)", f"{100 * scores.failure_rate:.1f} %"),
    ]
    return table((f"landmarks, {scores.frames} frames", ""), rows)


def _confusion(recognition: Recognition) -> Html:
    head = ("true, predicted →", *recognition.classes)
    body = []
    for name, counts in zip(recognition.classes, recognition.confusion, strict=True):
        cells = (_confusion_cell(count, sum(counts)) for count in counts)
        body.append(element("tr", element("th", name, scope="row"), *cells))
    columns = (element("th", name, scope="col") for name in head)
    header = element("thead", element("tr", *columns))
    return element("table", header, element("tbody", *body), class_="confusion")


def _confusion_cell(count: int, total: int) -> Html:
    share = count / total if total else 0.0
    style = f"background: rgba(31, 95, 168, {0.06 + 0.94 * share:.2f}); color: {'#fff' if share > 0.5 else '#1d2530'}"
    return element("td", count, element("small", f"{100 * share:.0f} %"), style=style)


def _classes(recognition: Recognition) -> Html:
    rows = [
        (
            scores.name,
            scores.videos,
            scores.predicted,
            _number(scores.recall),
            _number(scores.precision),
            _number(scores.f1),
        )
        for scores in recognition.per_class
    ]
    return table(("class", "videos", "predicted", "recall", "precision", "F1"), rows)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", value
