"""Predictions of another program beside a run: read, matched to videos, refused in a sentence."""

from pathlib import Path

import pytest

from mol_fast.evaluate import main
from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.report.paper_table import paper_table
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.foreign import read_foreign
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import VideoId

CLASSES = ("negative", "positive")
VIDEOS = {VideoId("one", "1", "a"): 0, VideoId("one", "1", "b"): 1, VideoId("one", "2", "a"): 0,
    VideoId("two", "2", "c"): 1}  # fmt: skip


def make_run(videos: dict[VideoId, int]) -> StoredRun:
    """Two seeds of a run over two sets, all videos predicted negative."""
    folds = {}
    for seed in (4, 5):
        for person in sorted({video.person for video in videos}):
            evaluation = Evaluation(CLASSES)
            windows = [LabelledWindow(video, label, (1.0, 0.0)) for video, label in videos.items()]
            evaluation.add_windows([window for window in windows if window.video.person == person])
            folds[Fold.of((person,), seed, 2)] = FoldResults(evaluation, ())
    return StoredRun(Path("run"), {"settings": {"steps": 1}, "model": {}, "sources": ["one", "two"]}, folds, ())


@pytest.fixture
def run() -> StoredRun:
    return make_run(VIDEOS)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


GOOD = "subject;Video;Predicted\n1;a;negative\n1;b;positive\n2;a;positive\n2;c;positive\n"


def test_predictions_are_scored_like_a_run(run: StoredRun, tmp_path: Path) -> None:
    foreign = read_foreign(write(tmp_path / "other.csv", GOOD), run)
    assert {fold.subjects for fold in foreign.folds} == {(video.person,) for video in VIDEOS}
    found = {v.video: (v.label, v.predicted) for item in foreign.folds.values() for v in item.evaluation.videos()}
    assert found == {video: (label, int(video != VideoId("one", "1", "a"))) for video, label in VIDEOS.items()}
    rows = paper_table([run, foreign]).rows
    assert [name for name, _ in rows] == ["run", "other.csv"]
    uf1 = (2 * 1 / (1 + 2) + 2 * 2 / (2 + 3)) / 2
    assert rows[1][1][0].text == f"{uf1:.3f}"


def test_a_video_that_one_subject_has_needs_no_subject(run: StoredRun, tmp_path: Path) -> None:
    text = GOOD.replace("1;b", ";b").replace("2;c", ";c")
    assert len(read_foreign(write(tmp_path / "other.csv", text), run).folds) == 3


def test_capitals_of_classes_and_apostrophes_of_our_own_tables_do_not_matter(tmp_path: Path) -> None:
    text = GOOD.replace("negative", "Negative").replace("b;positive", "'-b;POSITIVE")
    dashed = {VideoId(*video[:2], "-b") if video.name == "b" else video: label for video, label in VIDEOS.items()}
    foreign = read_foreign(write(tmp_path / "other.csv", text), make_run(dashed))
    found = {v.video: v.predicted for item in foreign.folds.values() for v in item.evaluation.videos()}
    assert found == {video: int(video != VideoId("one", "1", "a")) for video in dashed}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "3;a;negative\n", "line 6 of PATH has the video a of subject 3, which run does not hold out"),
        (GOOD + "1;a;positive\n", "line 6 of PATH has the video a again: give each video once"),
        (GOOD.replace("2;c;positive\n", ""), "PATH lacks 1 of the 4 videos of run, for example c of subject 2: add"),
        (
            GOOD.replace("1;a;neg", ";a;neg"),
            "line 2 of PATH has the video a, which several have (1, 2): add a column s",
        ),
        (GOOD.replace("b;positive", "b;happy"), "line 3 of PATH predicts happy, which is no class: use negative, pos"),
        (GOOD.replace("Predicted", "class"), "PATH has no column predicted, only subject, Video, class: give a table"),
        ("", "PATH has no column video and no column predicted, only none: give a table with the columns video"),
    ],
)
def test_what_does_not_fit_is_one_sentence(run: StoredRun, tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path / "other.csv", text)
    with pytest.raises(UserError) as error:
        read_foreign(path, run)
    assert str(error.value).startswith(sentence.replace("PATH", str(path)))


def test_beside_a_trained_run(finished_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The predictions of the run itself, as a table of another program, differ by nothing from one of its seeds."""
    rows = [row.split(",") for row in (finished_run / "predictions.csv").read_text().splitlines()]
    places = [rows[0].index(name) for name in ("subject", "video", "predicted")]
    kept = [rows[0], *(row for row in rows[1:] if row[0] == "0")]
    text = "\n".join(",".join(row[place] for place in places) for row in kept)
    table = write(tmp_path / "mine.csv", text)
    assert main(["--compare", str(finished_run), str(table), "--out", str(tmp_path / "out")]) == 0
    assert "B: " + str(table) in capfd.readouterr().out
    assert (tmp_path / "out" / "comparison.html").exists()
    assert main(["--table", str(table), str(finished_run)]) == 0
    assert capfd.readouterr().out.splitlines()[2].startswith("| mine.csv | ")
    assert main(["--compare", str(table), str(table)]) == 2
    assert "only tables of predictions: add a run" in capfd.readouterr().err
    assert main(["--table", str(finished_run), str(tmp_path / "gone.csv")]) == 2
    assert "gone.csv" in capfd.readouterr().err
