"""Two runs compared over subjects: scores, intervals, what cannot be compared. The runs are made up, not trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mol_fast.evaluation.compare import Comparison, compare_runs
from mol_fast.metrics import Evaluation, FlowSums, LabelledWindow, LandmarkSums, recognition_scores
from mol_fast.report.comparison import remarks, score_rows, write_comparison
from mol_fast.report.terminal import print_comparison
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, VideoId

CLASSES = ("negative", "positive", "surprise")
ABOUT = {"settings": {"steps": 1, "name": "x"}, "model": {}, "sources": ["casme2"], "environment": {}}


def video_id(name: str) -> VideoId:
    return VideoId("casme2", *name.split("/"))


def subject(name: str) -> Subject:
    return Subject("casme2", name)


def fold(videos: Mapping[str, tuple[int, int]], flow: FlowSums | None = None) -> FoldResults:
    """A fold with these videos by SUBJECT/NAME: true and predicted class."""
    evaluation = Evaluation(CLASSES)
    windows = [
        LabelledWindow(video_id(name), label, tuple(0.8 if place == predicted else 0.1 for place in range(3)))
        for name, (label, predicted) in videos.items()
    ]
    evaluation.add_windows(windows)
    if flow is not None:
        evaluation.flow = flow
        evaluation.landmarks = LandmarkSums(flow.error, 0, 7)
    return FoldResults(evaluation, ())


def made_up(name: str, folds: Mapping[str, FoldResults], **about: object) -> StoredRun:
    return StoredRun(Path(name), {**ABOUT, **about}, {Fold.of_earlier(key): item for key, item in folds.items()}, ())


def random_run(name: str, right: float, subjects: int, seeds: Sequence[int] = (0,), videos: int = 6) -> StoredRun:
    """A run whose videos are right with this probability; the labels are those of every other such run."""
    rng = np.random.default_rng([int(right * 1000), subjects, *map(ord, name)])
    folds = {}
    for seed in seeds:
        for subject in range(subjects):
            labels = [(subject + number) % 3 for number in range(videos)]
            predicted = [label if rng.random() < right else int(rng.integers(3)) for label in labels]
            pairs = {f"s{subject:02d}/v{n}": pair for n, pair in enumerate(zip(labels, predicted, strict=True))}
            pixels = 100 + subject
            flow = FlowSums(1.0, 3.0, pixels * (1 - right / 2), pixels * 0.9, 500, pixels)
            folds[f"s{subject:02d}-seed{seed}"] = fold(pairs, flow)
    return made_up(name, folds)


def pooled_confusion(run: StoredRun, times: Mapping[Subject, int], seed: int) -> torch.Tensor:
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    for key, item in run.folds.items():
        for video in item.evaluation.videos() if key.seed == seed else ():
            confusion[video.label, video.predicted] += times[video.video.person]
    return confusion


def test_scores_and_intervals_are_those_of_a_plain_loop() -> None:
    a, b = random_run("a", 0.4, 7, seeds=(0, 1)), random_run("b", 0.6, 7, seeds=(5,))
    found = compare_runs(a, b)
    differences = []
    for left_out in [None, *range(7)]:
        times = {subject: int(place != left_out) for place, subject in enumerate(found.subjects)}
        uf1 = [recognition_scores(pooled_confusion(a, times, seed), CLASSES).uf1 for seed in (0, 1)]
        other = recognition_scores(pooled_confusion(b, times, 5), CLASSES).uf1
        differences.append((sum(uf1) / 2, other, other - sum(uf1) / 2))
    score = found.scores["uf1"]
    assert (score.a, score.b, score.difference) == pytest.approx(differences[0])
    mean = sum(row[2] for row in differences[1:]) / 7
    error = (6 / 7 * sum((row[2] - mean) ** 2 for row in differences[1:])) ** 0.5
    reach = 2.4469 * error  # 97.5 % of Student's t with 6 degrees of freedom
    assert (score.low, score.high) == pytest.approx((score.difference - reach, score.difference + reach), rel=1e-4)
    assert found.seeds == {"a": (0, 1), "b": (5,)}
    assert found.videos == 42


def test_errors_are_pooled_over_pixels() -> None:
    a, b = random_run("a", 0.5, 8), random_run("b", 0.9, 8)
    score = compare_runs(a, b).scores["end_point_error_moving"]
    assert (score.a, score.b) == pytest.approx((0.75, 0.55))
    assert (score.low, score.high) == (None, None), "every subject differs by the same"
    assert score.contains_zero
    cells = next(row for row in score_rows(compare_runs(a, b)) if row[1] == "0.7500")
    assert cells[3:] == ("-0.2000", "n/a", "every subject agrees: no interval can be told")


def test_a_run_does_not_differ_from_itself() -> None:
    a = random_run("a", 0.5, 8)
    found = compare_runs(a, a)
    assert all(item.contains_zero and item.low == item.high == 0 for item in found.scores.values())


def test_a_clear_difference_is_seen() -> None:
    a, b = random_run("a", 0.2, 20), random_run("b", 0.9, 20)
    found = compare_runs(a, b)
    for name in ("accuracy", "uf1", "uar", "wf1"):
        assert found.scores[name].low > 0.2
        assert not found.scores[name].contains_zero


def test_intervals_of_equal_runs_mostly_contain_zero() -> None:
    """95 % of them, of 60: 51 or more by the binomial law but for one case in a thousand, and not always all."""
    pairs = [(random_run(f"a{n}", 0.5, 30), random_run(f"b{n}", 0.5, 30)) for n in range(60)]
    count = sum(compare_runs(a, b).scores["accuracy"].contains_zero for a, b in pairs)
    assert 51 <= count < 60


def test_only_common_subjects_count() -> None:
    a, b = random_run("a", 0.3, 12), random_run("b", 0.7, 9)
    found = compare_runs(a, b)
    assert len(found.subjects) == 9
    assert found.left_out == {"a": tuple(map(subject, ("s09", "s10", "s11"))), "b": ()}
    assert any("s09, s10, s11" in text for text in remarks(found, a, b))
    assert found.scores["accuracy"] == compare_runs(random_run_without(a, 9), b).scores["accuracy"]


def random_run_without(run: StoredRun, first: int) -> StoredRun:
    kept = {key.name: item for key, item in run.folds.items() if int(key.name[1:3]) < first}
    return made_up("kept", kept)


def test_a_subject_that_one_seed_lacks_is_left_out() -> None:
    a = random_run("a", 0.5, 8, seeds=(0, 1))
    part = {key.name: item for key, item in a.folds.items() if key.name != "s03-seed1"}
    found = compare_runs(made_up("part", part), a)
    assert subject("s03") not in found.subjects
    assert found.left_out == {"a": (subject("s03"),), "b": (subject("s03"),)}


def test_folds_of_several_subjects_have_no_errors_per_subject() -> None:
    videos = {f"s{number}/v": (number % 3, 0) for number in range(8)}
    pair = {"s0+s1+s2+s3+s4+s5+s6+s7-seed0": fold(videos, FlowSums(1, 1, 1, 1, 9, 9))}
    found = compare_runs(made_up("a", pair), made_up("b", pair))
    assert set(found.scores) == {"accuracy", "uf1", "uar", "wf1"}
    assert len(found.subjects) == 8
    assert sum("is not compared" in note for note in found.notes) == 2


def test_flow_of_another_truth_is_not_compared() -> None:
    a = random_run("a", 0.5, 7)
    folds = {}
    for key, item in a.folds.items():
        videos = {
            f"{video.video.subject}/{video.video.name}": (video.label, video.predicted)
            for video in item.evaluation.videos()
        }
        flow = item.evaluation.flow
        folds[key.name] = fold(videos, FlowSums(1, 3, 9, flow.moving_zero_error + 1, 500, flow.moving_pixels))
    found = compare_runs(a, made_up("b", folds))
    assert "end_point_error_moving" not in found.scores
    assert "landmark_error" in found.scores
    assert any("truth" in note for note in found.notes)


def test_few_subjects_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    a = made_up("a", {f"s{n}-seed0": fold({f"s{n}/v": (n % 3, (n + 1) % 3)}) for n in range(4)})
    b = made_up("b", {f"s{n}-seed0": fold({f"s{n}/v": (n % 3, n % 3)}) for n in range(4)})
    found = compare_runs(a, b)
    assert found.scores["accuracy"].low is None, "all of them agree"
    assert score_rows(found)[0][-1] == "too few subjects"
    print_comparison(found, a, b)
    assert "4 subjects are too few" in capsys.readouterr().out


def two(videos: Mapping[str, tuple[int, int]]) -> StoredRun:
    return made_up("other", {"x-seed0": fold(videos)})


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (two({"s1/v": (0, 0), "s2/v": (1, 1)}), "of video v of subject s2, a says surprise and other says positive"),
        (two({"s1/w": (0, 0), "s2/v": (2, 1)}), "of video v of subject s1, a says negative and other has no such"),
        (two({"s1/v": (0, 0)}), "1 held-out subjects in common"),
        (two({"s8/v": (0, 0)}), "0 held-out subjects in common"),
    ],
)
def test_runs_that_do_not_fit_are_refused(other: StoredRun, sentence: str) -> None:
    a = made_up("a", {"s1-seed0": fold({"s1/v": (0, 0)}), "s2-seed0": fold({"s2/v": (2, 2)})})
    with pytest.raises(UserError, match=sentence):
        compare_runs(a, other)


def test_other_classes_are_refused() -> None:
    five = Evaluation(("a", "b"))
    five.add_windows([LabelledWindow(video_id("s1/v"), 0, (1.0, 0.0))])
    with pytest.raises(UserError, match="the same protocol"):
        compare_runs(random_run("a", 0.5, 7), made_up("b", {"s1-seed0": FoldResults(five, ())}))


def test_the_page_says_which_intervals_contain_zero(tmp_path: Path) -> None:
    a, b = random_run("a", 0.5, 12), random_run("b", 0.5, 12)
    b = made_up("b", {key.name: item for key, item in b.folds.items()}, settings={"steps": 2, "lr": 0.1})
    found: Comparison = compare_runs(a, b)
    write_comparison(tmp_path / "c.html", found, a, b, {"seed": 0}, "2030-01-02")
    page = (tmp_path / "c.html").read_text()
    assert found.scores["accuracy"].contains_zero
    assert "contains zero: no difference shown" in page
    assert f"{found.scores['uf1'].difference:+.4f}" in page
    assert ">lr</th><td>None</td><td>0.1</td>" in page
    assert "Synthetic data" not in page
