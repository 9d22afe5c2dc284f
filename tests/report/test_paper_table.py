"""Tables of runs for a paper. The runs are made up, not trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mol_fast.metrics import Evaluation, FlowSums, LabelledWindow, LandmarkSums
from mol_fast.report.paper_table import paper_table
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, VideoId


def run(
    path: str,
    right: dict[str, int],
    seeds: int = 1,
    flow: float | None = None,
    classes: tuple[str, ...] = ("a", "b"),
    settings: Mapping[str, object] = {},
    identity: Mapping[str, object] = {},
    model: Mapping[str, object] = {},
    together: bool = False,
    label: int = 0,
) -> StoredRun:
    """A subject for each source with 4 videos of the first class, of which so many are right; one more every seed."""
    folds: dict[Fold, FoldResults] = {}
    for seed in range(seeds):
        evaluations = {}
        for source, count in right.items():
            evaluation = evaluations.setdefault("together" if together else source, Evaluation(classes))
            evaluation.add_windows(
                [
                    LabelledWindow(
                        VideoId(source, "1", f"v{i}"), label, tuple(np.eye(len(classes))[int(i >= count + seed)])
                    )
                    for i in range(4)
                ]
            )
            if flow is not None:
                evaluation.flow = FlowSums(1, 1, flow * 10, 10, 10, 10)
                evaluation.landmarks = LandmarkSums(12.0, 0, 4)
        for group, evaluation in evaluations.items():
            sources = list(right) if together else [group]
            folds[Fold.of([Subject(source, "1") for source in sources], seed)] = FoldResults(evaluation, ())
    about = {
        "settings": {"steps": 250, "lr": 0.001, "flip": True, "freeze": [], **settings},
        "identity": {"labels": "0" * 64, "precision": "bfloat16", **identity},
        "model": dict(model),
    }
    return StoredRun(Path(path), about, folds, ())


def test_best_values_are_bold_and_missing_ones_are_said() -> None:
    table = paper_table([run("x/first", {"s": 2}, flow=0.25), run("x/two_%", {"s": 3}, 2), run("y/first", {"s": 2})])
    assert table.markdown().splitlines() == [
        "| run | UF1 | UAR | accuracy | flow (px) | landmarks (%) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| x/first | 0.333 | 0.500 | 0.500 | 0.250 | 3.00 |",
        "| two_% | **0.714 ± 0.404** | **0.875 ± 0.177** | **0.875 ± 0.177** | n/a | n/a |",
        "| y/first | 0.333 | 0.500 | 0.500 | n/a | n/a |",
    ]
    lines = table.latex().splitlines()
    assert lines[:4] == [
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        r"Run & UF1 & UAR & accuracy & flow (px) & landmarks (\%) \\",
        r"\midrule",
    ]
    assert lines[5].startswith(r"two\_\% & \textbf{0.714 $\pm$ 0.404} & ")


def test_less_error_is_better_and_equal_values_are_both_best() -> None:
    table = paper_table([run("a", {"s": 2}, flow=0.3), run("b", {"s": 2}, flow=0.2)])
    assert [[cell.best for cell in cells] for _, cells in table.rows] == [
        [True, True, True, False, True],
        [True, True, True, True, True],
    ]


def test_parts_of_a_composite_have_columns() -> None:
    table = paper_table([run("a", {"smic": 4, "casme2": 2})])
    assert table.columns == (
        "full UF1",
        "full UAR",
        "full accuracy",
        "casme2 UF1",
        "casme2 UAR",
        "smic UF1",
        "smic UAR",
    )
    assert [cell.text for cell in table.rows[0][1]] == ["0.429", "0.750", "0.750", "0.333", "0.500", "1.000", "1.000"]
    assert not any(cell.best for cell in table.rows[0][1])


def test_runs_of_other_videos_are_named() -> None:
    table = paper_table([run("a", {"s": 2}), run("b", {"s": 2}), run("c", {"s": 2, "t": 1})])
    assert table.notes[0] == "c held out other videos than a: their scores cannot be compared"
    assert len(table.notes) == 2, "and other folds"


def test_what_differs_is_told_in_both_files(tmp_path: Path) -> None:
    """Models that are fitted at once have no steps, and predictions of other tools do not tell how they were made."""
    fitted, foreign = run("fitted", {"s": 2}, settings={"steps": 0, "lr": 5}), run("foreign", {"s": 2})
    foreign.about.pop("identity")
    assert paper_table([run("a", {"s": 2}), fitted, foreign]).notes == ()
    many = run("b", {"s": 2}, 2, settings={"steps": 100, "lr": 0.5, "freeze": ["stem", "f5c"], "flip": False})
    table = paper_table([run("a", {"s": 2}), fitted, foreign, many])
    assert table.notes == (
        "not all runs have the same seeds: 0 for a, fitted; 0 1 for b",
        "not all runs have the same --steps: 250 for a; 100 for b",
        "not all runs have the same --lr: 0.001 for a; 0.5 for b",
        "not all runs have the same --flip: yes for a; no for b",
        "not all runs have the same --freeze: none for a; stem f5c for b",
    )
    table.write(tmp_path)
    below = "".join(f"\n{note}\n" for note in table.notes)
    assert (tmp_path / "table.md").read_text() == table.markdown() + below
    above = "".join(f"% {note}\n" for note in table.notes)
    assert (tmp_path / "table.tex").read_text() == above + table.latex()


def test_options_of_the_network_differ_between_networks_alone() -> None:
    small, paper = (run(name, {"s": 2}, settings={"preset": name}) for name in ("small", "paper"))
    baseline = run("ststnet", {"s": 2}, settings={"preset": "paper"}, model={"baseline": "ststnet"})
    assert paper_table([small, baseline]).notes == ()
    assert paper_table([small, paper]).notes == (
        "not all runs have the same --preset: small for small; paper for paper",
    )


def test_other_folds_and_training_videos_are_told() -> None:
    apart, together = run("apart", {"s": 2, "t": 2}), run("together", {"s": 2, "t": 2}, together=True)
    assert paper_table([apart, together]).notes == (
        "not all runs have the same folds: 2 of one subject for apart; 1 of up to 2 subjects for together",
    )
    more = run("more", {"s": 2, "t": 2}, identity={"labels": "f" * 64, "precision": "float32"})
    assert paper_table([apart, more]).notes == (
        "not all runs have the same precision: bfloat16 for apart; float32 for more",
        "not all runs have the same training videos: digest 00000000 for apart; digest ffffffff for more",
    )


def test_a_run_whose_seeds_lack_folds_is_named() -> None:
    whole, partial = (run(name, {"s": 2, "t": 2}, 2) for name in ("whole", "partial"))
    lost = next(fold for fold in partial.folds if fold.seed == 1 and fold.subjects[0].source == "t")
    left = {fold: results for fold, results in partial.folds.items() if fold != lost}
    notes = paper_table([whole, replace(partial, folds=left, unfinished=(lost.name,))]).notes
    assert notes == (
        "the seeds of partial held out different videos: their scores cannot be compared",
        f"partial: 1 of 4 folds of partial are missing: {lost.name}.",
    )


def test_warnings_of_a_run_go_with_the_table() -> None:
    seen = run("seen", {"s": 2}, settings={"weights": "w.safetensors", "steps": 10})
    seen.about["warnings"] = ["the weights were trained on s"]
    assert paper_table([run("a", {"s": 2}), seen]).notes == (
        "seen scores weights: what they learned from, and how, is not compared",
        "seen: the weights were trained on s",
    )


def test_runs_that_do_not_fit_are_refused() -> None:
    first = run("a", {"s": 2})
    with pytest.raises(UserError, match="give runs of the same protocol"):
        paper_table([first, run("b", {"s": 2}, classes=("a", "b", "c"))])
    with pytest.raises(UserError, match="a run is given twice"):
        paper_table([first, run("b/../a", {"s": 1})])
    with pytest.raises(UserError, match="of video v0 of subject 1, a says a and b says b"):
        paper_table([first, run("b", {"s": 2}, label=1)])


def test_a_set_called_full_keeps_its_columns() -> None:
    """All videos are called all then, and a name with a bar stays one cell."""
    table = paper_table([run("x", {"full": 4, "a|b": 2})])
    assert table.columns == ("all UF1", "all UAR", "all accuracy", "a|b UF1", "a|b UAR", "full UF1", "full UAR")
    texts = dict(zip(table.columns, (cell.text for cell in table.rows[0][1]), strict=True))
    assert (texts["all UAR"], texts["full UAR"], texts["a|b UAR"]) == ("0.750", "1.000", "0.500")
    assert table.markdown().startswith(r"| run | all UF1 | all UAR | all accuracy | a\|b UF1 | a\|b UAR | full UF1 |")
