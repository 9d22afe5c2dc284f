"""Tables of runs for a paper. The runs are made up, not trained."""

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
    steps: object = 250,
) -> StoredRun:
    """A subject for each source with 4 videos of the first class, of which so many are right; one more every seed."""
    folds = {}
    for seed in range(seeds):
        for source, count in right.items():
            evaluation = Evaluation(classes)
            evaluation.add_windows(
                [
                    LabelledWindow(
                        VideoId(source, "1", f"v{i}"), 0, tuple(np.eye(len(classes))[int(i >= count + seed)])
                    )
                    for i in range(4)
                ]
            )
            if flow is not None:
                evaluation.flow = FlowSums(1, 1, flow * 10, 10, 10, 10)
                evaluation.landmarks = LandmarkSums(12.0, 0, 4)
            folds[Fold.of([Subject(source, "1")], seed)] = FoldResults(evaluation, ())
    return StoredRun(Path(path), {"settings": {"steps": steps}}, folds, ())


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
    assert table.notes == ("c held out other videos than a: their scores cannot be compared",)


def test_other_numbers_of_seeds_and_steps_are_told_in_both_files(tmp_path: Path) -> None:
    """Models that are fitted at once have no steps, and predictions of other tools do not tell them."""
    fitted, foreign = run("fitted", {"s": 2}, steps=0), run("foreign", {"s": 2}, steps="unknown")
    assert paper_table([fitted, foreign, run("a", {"s": 2})]).notes == ()
    table = paper_table([fitted, foreign, run("a", {"s": 2}, 2), run("b", {"s": 2}, 2, steps=100)])
    seeds, steps = table.notes
    assert seeds == "not all runs have as many seeds: 1 for fitted, foreign; 2 for a, b"
    assert steps == "not all runs have as many steps: 250 for a; 100 for b"
    table.write(tmp_path)
    assert (tmp_path / "table.md").read_text() == f"{table.markdown()}\n{seeds}\n\n{steps}\n"
    assert (tmp_path / "table.tex").read_text() == f"% {seeds}\n% {steps}\n{table.latex()}"


def test_runs_that_do_not_fit_are_refused() -> None:
    first = run("a", {"s": 2})
    with pytest.raises(UserError, match="give runs of the same protocol"):
        paper_table([first, run("b", {"s": 2}, classes=("a", "b", "c"))])
    with pytest.raises(UserError, match="a run is given twice"):
        paper_table([first, run("b/../a", {"s": 1})])


def test_a_set_called_full_keeps_its_columns() -> None:
    """All videos are called all then, and a name with a bar stays one cell."""
    table = paper_table([run("x", {"full": 4, "a|b": 2})])
    assert table.columns == ("all UF1", "all UAR", "all accuracy", "a|b UF1", "a|b UAR", "full UF1", "full UAR")
    texts = dict(zip(table.columns, (cell.text for cell in table.rows[0][1]), strict=True))
    assert (texts["all UAR"], texts["full UAR"], texts["a|b UAR"]) == ("0.750", "1.000", "0.500")
    assert table.markdown().startswith(r"| run | all UF1 | all UAR | all accuracy | a\|b UF1 | a\|b UAR | full UF1 |")
