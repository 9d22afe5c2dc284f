"""Tables and report over folds and seeds. The folds are made up, not trained."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from mol_fast.metrics import Evaluation, FlowSums, LabelledWindow, LandmarkSums
from mol_fast.report.run import write_run_report
from mol_fast.report.terminal import print_scores
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.selection import Scoring
from mol_fast.utils.files import file_sha256
from mol_fast.utils.names import Subject, VideoId

CLASSES = ("negative", "positive", "surprise")
ABOUT = {"settings": {"steps": 7}, "model": {}, "sources": ["casme2"], "environment": {}}
RIGHT = {("s01", 0): 1, ("s02", 0): 3, ("s01", 1): 4, ("s02", 1): 3}
"""How many of the four videos of a subject are predicted right, by seed."""


def fold(subject: str, right: int, tasks: bool) -> FoldResults:
    evaluation = Evaluation(CLASSES)
    windows = []
    for number in range(4):
        best = number % 3 if number < right else (number + 1) % 3
        probabilities = tuple(0.8 if place == best else 0.1 for place in range(3))
        windows.append(LabelledWindow(VideoId("casme2", subject, f"v{number}"), number % 3, probabilities))
    evaluation.add_windows(windows)
    if tasks:
        evaluation.flow = FlowSums(right * 10.0, 60.0, right * 6.0, 30.0, 100, 20)
        evaluation.landmarks = LandmarkSums(error=right * 40.0, failures=right, frames=8)
    return FoldResults(evaluation, ())


def fold_of(subject: str, seed: int) -> Fold:
    return Fold.of([Subject("casme2", subject)], seed)


def pooled(seeds: tuple[int, ...] = (0, 1), tasks: bool = True) -> PooledResults:
    names = [(subject, seed) for subject, seed in RIGHT if seed in seeds]
    return PooledResults(
        {fold_of(subject, seed): fold(subject, RIGHT[subject, seed], tasks) for subject, seed in names}
    )


def page_of(folder: Path, results: PooledResults) -> str:
    (folder / "run").mkdir()
    write_run_report(folder / "run", results, ABOUT, "2030-01-02 03:04")
    return (folder / "run/report.html").read_text()


def test_every_error_is_in_the_tables(tmp_path: Path) -> None:
    pooled().write(tmp_path)
    with open(tmp_path / "folds.csv", newline="") as file:
        rows = {row["fold"]: row for row in csv.DictReader(file)}
    expected = {
        "videos": 4,
        "end_point_error": 0.3,
        "end_point_error_zero_flow": 0.6,
        "end_point_error_moving": 0.9,
        "end_point_error_moving_zero_flow": 1.5,
        "end_point_error_moving_share": 0.6,
        "landmark_error": 15,
        "landmark_failure_rate": 0.375,
    }
    assert {name: float(rows["s02-seed0"][name]) for name in expected} == pytest.approx(expected)
    statistics = json.loads((tmp_path / "scores.json").read_text())["statistics"]
    assert set(statistics) == set(rows["s02-seed0"]) - {"fold", "seed", "videos"}
    assert statistics["landmark_failure_rate"] == pytest.approx({"mean": (4 + 7) / 32, "std": 3 / 16 / 2**0.5})


def test_tasks_that_are_not_learned_have_no_columns(tmp_path: Path) -> None:
    pooled(tasks=False).write(tmp_path)
    header = (tmp_path / "folds.csv").read_text().splitlines()[0]
    assert header == "fold,seed,videos,accuracy,uf1,uar,wf1"


def test_report_of_several_seeds(tmp_path: Path) -> None:
    page = page_of(tmp_path, pooled())
    assert "7 steps, folds over 2 seeds (0, 1): 4, held-out subjects: 2" in page
    assert "0.688 ± 0.265" in page  # 4 and 7 of 8 videos
    assert '<th scope="col">seed 0</th><th scope="col">seed 1</th><th scope="col">mean</th>' in page
    subjects = page[page.index(">Subjects</h2>") :]
    assert "Means over 2 seeds (0, 1)" in subjects
    row = '>s01</th><td>casme2</td><td>4</td><td>2.5</td><td><span class="share"><span style="width: 62.5%">'
    assert row in subjects
    assert "62 % ± 53 %" in subjects
    assert '>s02</th><td>casme2</td><td>4</td><td>3</td><td><span class="share"><span style="width: 75.0%">' in subjects
    assert "75 % ± 0 %" in subjects
    assert "All clips are of seed 0." in page


def test_report_of_one_seed_says_nothing_of_seeds(tmp_path: Path) -> None:
    page = page_of(tmp_path, pooled(seeds=(1,)))
    assert "7 steps, folds: 2, held-out subjects: 2" in page
    assert "seed" not in page.lower()
    assert "±" not in page


def test_seeds_that_lack_folds(tmp_path: Path) -> None:
    """As with evaluate --partial: a subject counts in the seeds that hold it out."""
    folds = dict(pooled().folds)
    del folds[fold_of("s01", 0)]
    page = page_of(tmp_path, PooledResults(folds))
    assert '<th scope="row">videos</th><td>4</td><td>8</td>' in page
    assert "recognition, 6.0 videos" in page
    assert ">s01</th><td>casme2</td><td>4</td><td>4</td>" in page


def test_losses_are_over_the_trainings_that_have_a_record(tmp_path: Path) -> None:
    results = pooled()
    assert results.losses(tmp_path) == ([], 0)
    for name, total in (("s01-seed0", 1.0), ("s02-seed1", 4.0)):
        (tmp_path / "folds" / name).mkdir(parents=True)
        (tmp_path / "folds" / name / "metrics.csv").write_text(f"step,total,rate\n1,{total},9\n")
    assert results.losses(tmp_path) == ([{"step": 1, "total": 2.5}], 2)


def test_defect_09_curves_leave_out_a_damaged_step_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is known by its digest in scores.json."""
    path = tmp_path / "folds/s01-seed0/metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,total\n1,2.0\n")
    folds = pooled(seeds=(0,)).folds
    folds[fold_of("s01", 0)] = replace(folds[fold_of("s01", 0)], steps=file_sha256(path))
    folds[fold_of("s01", 0)].write(path.parent)
    stored = FoldResults.read(path.parent)
    assert stored is not None
    assert stored.steps == file_sha256(path)
    assert PooledResults(folds).losses(tmp_path) == ([{"step": 1, "total": 2.0}], 1)
    path.write_text("step,total\n1,3.0\n")
    assert PooledResults(folds).losses(tmp_path) == ([], 0)
    path.unlink()
    assert PooledResults(folds).losses(tmp_path) == ([], 0)
    assert capsys.readouterr().err == f"warning: {path} is missing or damaged: the curves leave it out\n" * 2


def test_the_choice_on_the_test_is_shown_over_seeds(tmp_path: Path) -> None:
    chosen = {key: replace(item, chosen=Scoring(5, item.evaluation)) for key, item in pooled().folds.items()}
    page = page_of(tmp_path, PooledResults(chosen))
    section = page[page.index(">Chosen on the test subjects</h2>") : page.index(">Seeds</h2>")]
    assert "Means over 2 seeds (0, 1)" in section
    assert ">0.6875 ± 0.2652</td><td>0.6875 ± 0.2652</td>" in section


def test_defect_19_a_run_has_intervals_over_subjects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rights = {f"s{number}": number % 4 + 1 for number in range(8)}
    results = PooledResults({fold_of(name, 0): fold(name, right, False) for name, right in rights.items()})
    results.write(tmp_path)
    found = json.loads((tmp_path / "scores.json").read_text())["intervals"]
    accuracy = sum(rights.values()) / 32
    spread = [right / 4 for right in rights.values()]
    error = (sum((value - accuracy) ** 2 for value in spread) / 7 / 8) ** 0.5  # subjects of equal size
    reach = 2.364624 * error / (accuracy * (1 - accuracy))  # 97.5 % of Student's t with 7 degrees of freedom
    odds = math.log(accuracy / (1 - accuracy))
    assert found["accuracy"] == pytest.approx([1 / (1 + math.exp(side * reach - odds)) for side in (1, -1)])
    assert list(found) == ["accuracy", "uf1", "uar", "wf1"]
    print_scores(results)
    low, high = found["uf1"]
    text = f"95 % interval {low:.3f} to {high:.3f}"
    assert text in capsys.readouterr().out
    assert f"{low:.3f} to {high:.3f}" in page_of(tmp_path, results)


def test_few_subjects_have_no_interval(tmp_path: Path) -> None:
    pooled().write(tmp_path)
    assert "intervals" not in json.loads((tmp_path / "scores.json").read_text())


def test_printed_scores(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(pooled())
    printed = capsys.readouterr().out
    assert "mean ± standard deviation over 2 seeds (0, 1)" in printed
    assert "0.688 ± 0.265" in printed
    assert "0.275 ± 0.106 px, zero flow 0.600 px" in printed
    assert "0.344 ± 0.133 of the frames, over 10 %" in printed
    print_scores(pooled(seeds=(0,)))
    printed = capsys.readouterr().out
    assert "seed" not in printed
    assert "±" not in printed
    assert "0.250 of the frames, over 10 %" in printed
