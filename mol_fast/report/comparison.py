"""The page of a comparison of two runs: comparison.html."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mol_fast.evaluation.compare import Comparison, Difference
from mol_fast.metrics.jackknife import FEW
from mol_fast.report.html import Html, element, notice, section, table, write_page
from mol_fast.report.labels import RECOGNITION, is_synthetic
from mol_fast.report.sections import synthetic_notice
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.names import Subject, label_subjects

COMPARED = RECOGNITION | {
    "end_point_error_moving": "end-point error, moving (px, less is better)",
    "landmark_error": "landmark error (%, less is better)",
}
_OF_PARTS = ("uf1", "uar")
HEAD = ("score", "A", "B", "B - A", "95 % interval", "")


def write_comparison(
    path: Path, comparison: Comparison, a: StoredRun, b: StoredRun, about: Mapping[str, Any], date: str
) -> None:
    """Write the comparison of two runs as a page.

    Args:
        path: HTML file to write.
        comparison: comparison of `a` and `b`.
        a, b: the runs.
        about: how they were compared.
        date: date of the page.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    differing = settings_rows(a, b)
    content = [
        *([synthetic_notice()] if of_synthetic(a, b) else []),
        *(notice("Note.", text) for text in remarks(comparison, a, b)),
        section("Scores", element("p", _METHOD, class_="note"), table(HEAD, score_rows(comparison))),
        section("Settings that differ", _settings(differing)),
        section("Comparison", table((), about.items(), class_="settings")),
    ]
    write_page(path, f"{a.path.resolve().name} and {b.path.resolve().name}", f"{date} · {summary(comparison)}", content)


def score_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return a row per score: label, A, B, difference, interval, and whether the interval contains zero.

    UF1 and UAR of each source follow, if there are several.
    """
    rows = [(COMPARED[name], *_cells(item, comparison.few)) for name, item in comparison.scores.items()]
    for source, scores in comparison.parts.items():
        few = sum(subject.source == source for subject in comparison.subjects) < FEW
        rows += [(f"{RECOGNITION[name]} of {source}", *_cells(scores[name], few)) for name in _OF_PARTS]
    return rows


def settings_rows(a: StoredRun, b: StoredRun) -> list[tuple[str, str, str]]:
    """Return name and both values of every setting, also of the model, that differs between two runs."""
    sides = [
        run.about["settings"] | {f"model.{name}": value for name, value in run.about["model"].items()} for run in (a, b)
    ]
    names = [name for name in dict.fromkeys([*sides[0], *sides[1]]) if name not in ("name", "out")]
    pairs = [(name, sides[0].get(name), sides[1].get(name)) for name in names]
    return [(name, _text(there), _text(here)) for name, there, here in pairs if there != here]


def summary(comparison: Comparison) -> str:
    """Summarise what was compared, in a few words."""
    seeds = {letter: len(seeds) for letter, seeds in comparison.seeds.items()}
    text = f"{comparison.videos} videos of {len(comparison.subjects)} subjects"
    if max(seeds.values()) == 1:
        return text
    return f"{text}, mean over seeds ({seeds['a']} of A, {seeds['b']} of B)"


def remarks(comparison: Comparison, a: StoredRun, b: StoredRun) -> list[str]:
    """Return remarks to show beside the scores: warnings, missing subjects, notes of the comparison."""
    texts = []
    for letter, subjects in comparison.left_out.items():
        if subjects:
            texts.append(
                f"Subjects of {letter.upper()} that the other run or a seed lacks are ignored: {_names(subjects)}."
            )
    return [*a.warnings, *b.warnings, *texts, *comparison.notes]


_METHOD = (
    "The interval comes from leaving out one subject at a time, the same of both runs (jackknife, Student's t). An "
    "interval that contains zero means that the subjects do not show which run is better."
)


def _cells(item: Difference, few: bool) -> tuple[str, ...]:
    scores = f"{item.a:.4f}", f"{item.b:.4f}", f"{item.difference:+.4f}"
    if item.low is None or item.high is None:
        return *scores, "n/a", "too few subjects" if few else "every subject agrees: no interval can be told"
    verdict = "contains zero: no difference shown" if item.contains_zero else "does not contain zero"
    verdict = "too few subjects" if few and not item.contains_zero else verdict
    return *scores, f"{item.low:+.4f} to {item.high:+.4f}", verdict


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _names(subjects: Iterable[Subject]) -> str:
    return ", ".join(label_subjects(subjects).values())


def _settings(rows: list[tuple[str, str, str]]) -> Html:
    return table(("setting", "A", "B"), rows, class_="settings") if rows else element("p", "None.")


def of_synthetic(a: StoredRun, b: StoredRun) -> bool:
    """Return True if one of the runs is scored on generated videos."""
    return is_synthetic(item.evaluation for run in (a, b) for item in run.folds.values())
