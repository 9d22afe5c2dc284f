"""A set whose names are hostile to files, tables and terminals is trained and scored right, and never merged."""

import csv
import html
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from harness.trainings import edit_json

from mol_fast.data import Video, write_index, write_video
from mol_fast.data.loading import fingerprint, open_data
from mol_fast.evaluate import main as evaluate
from mol_fast.nn.weights import FILE_NAME
from mol_fast.predict import main as predict
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.stored import read_run
from mol_fast.train import main as train
from mol_fast.training.fold import _is_finished
from mol_fast.utils.names import VideoId
from mol_fast.utils.tables import read_csv_table

pytestmark = pytest.mark.usefixtures("light")

CLASSES = ("video", "window", "label", "predicted", "seed", "=1+1", "[/bold]", "p_video")
HELD_OUT = ("a", "a/x", "A", "=cmd|' /C calc'!A0", "[/bold]", "x" * 200, "x" * 199 + "y", "表情")
PAIRS = ("x/v", "v", "-1", "x/v", "'", "v" * 200, "=v", "..")
TRAINED = "subject for training"


def write_set(folder: Path, order: int = 1) -> Path:
    """Eight held-out videos, each of another class and subject, and eight to train on; every one of eight frames."""
    generator = torch.Generator().manual_seed(0)
    names = [*zip(HELD_OUT, PAIRS, CLASSES, strict=True), *((TRAINED, f"of {name}", name) for name in CLASSES)]
    videos = []
    for number, (subject, name, label) in enumerate(names):
        frames = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8, generator=generator)
        landmarks = 30 + 84 * torch.rand(8, 68, 2, generator=generator)
        landmarks[:, 36:42, 0] -= 30
        landmarks[:, 42:48, 0] += 30
        flow = torch.rand(7, 2, 144, 144, generator=generator).half()
        file = folder / "videos" / f"{number}.safetensors"
        videos.append(write_video(file, frames, landmarks, flow, subject=subject, video=name, label=label, source="s"))
    write_index(folder, videos[::order], {"name": "hostile"})
    return folder


def options(folder: Path, out: Path) -> list[str]:
    given = ["--data", str(folder), "--out", str(out), "--name", "run", "--steps", "1", "--batch-size", "2"]
    given += ["--tasks", "mer", "--precision", "float32"]
    return [*given, *(word for name in HELD_OUT for word in ("--test-subjects", name))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("hostile") / "set")


@pytest.fixture(scope="module")
def run(prepared: Path) -> Path:
    assert train(options(prepared, prepared.parent)) == 0
    return prepared.parent / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be damaged; the same command with this `tmp_path` resumes it."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def only_fold(run: Path) -> Path:
    (fold,) = (run / "folds").iterdir()
    return fold


def test_defect_02_eight_videos_stay_eight(run: Path) -> None:
    """Subject a with video x/v beside subject a/x with video v, and so on."""
    expected = {("s", subject, name): label for subject, name, label in zip(HELD_OUT, PAIRS, CLASSES, strict=True)}
    rows = read_csv_table((run / "predictions.csv").read_text())
    assert {(row["source"], row["subject"], row["video"]): row["label"] for row in rows} == expected
    assert len(rows) == 8
    results = FoldResults.read(only_fold(run))
    assert results is not None
    found = {window.video: results.evaluation.classes[window.label] for window in results.evaluation.windows()}
    assert found == expected
    confusion = json.loads((run / "scores.json").read_text())["seeds"]["0"]["recognition"]["confusion"]
    assert [sum(row) for row in confusion] == [1] * 8
    page = (run / "report.html").read_text()
    assert all(f">{html.escape(name)}</th><td>s</td><td>1</td>" in page for name in HELD_OUT)


def test_defect_03_classes_may_have_the_names_of_columns(run: Path) -> None:
    with open(only_fold(run) / "windows.csv", newline="") as file:
        header = next(csv.reader(file))
    assert len(set(header)) == len(header) == 6 + len(CLASSES)
    assert {f"p_{name}" for name in CLASSES} < set(header)
    for row in read_csv_table((run / "predictions.csv").read_text()):
        probabilities = {name: float(row[f"p_{name}"]) for name in CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1)
        assert row["predicted"] == max(probabilities, key=probabilities.__getitem__)


def test_defect_08_identity_of_a_long_fold_is_in_its_configuration(run: Path) -> None:
    fold = only_fold(run)
    assert sum(map(len, HELD_OUT)) > 255 >= len(fold.name.encode())
    config = json.loads((fold / "config.json").read_text())
    assert {tuple(item) for item in config["test_subjects"]} == {("s", name) for name in HELD_OUT}
    (stored,) = read_run(run).folds
    assert stored.subjects == tuple(("s", name) for name in HELD_OUT)
    assert stored.name == fold.name


def test_defect_12_no_cell_of_an_identity_is_run_by_a_spreadsheet(run: Path) -> None:
    for table in (*run.glob("*.csv"), *run.glob("folds/*/windows.csv")):
        with open(table, newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    names = pd.read_csv(run / "predictions.csv")["subject"]
    assert "'=cmd|' /C calc'!A0" in set(names)


def test_the_same_set_in_two_orders_has_one_identity(prepared: Path, tmp_path: Path) -> None:
    """The same clips in the same order, hence the same training."""
    other = write_set(tmp_path / "set", -1)
    one, two = (open_data([folder])[0] for folder in (prepared, other))
    assert [video.id for video in one] == [video.id for video in two]
    assert fingerprint(one) == fingerprint(two)


def test_two_orders_of_files_have_the_same_scores_by_identity(run: Path, tmp_path: Path) -> None:
    other = write_set(tmp_path / "set", -1)
    assert train(options(other, tmp_path)) == 0
    for name in ("scores.json", "predictions.csv", f"folds/{only_fold(run).name}/metrics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


def test_defect_06_digest_of_lost_weights(prepared: Path, copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Predict and evaluate say what to do, and the same command says why, and trains the fold again."""
    fold = only_fold(copy)
    weights = fold / FILE_NAME
    content = weights.read_bytes()
    video = str(prepared / "videos/0.safetensors")
    assert _is_finished(fold, by_test=False)
    for damaged in (content[: len(content) // 2], content[:-4] + bytes(4), None):
        weights.unlink(missing_ok=True)
        if damaged is not None:
            weights.write_bytes(damaged)
        for program, given in (
            (evaluate, ["--weights", str(fold), "--data", str(prepared)]),
            (predict, [video, "--weights", str(fold), "--out", str(copy / "out")]),
        ):
            assert program(given) == 2
            error = capfd.readouterr().err
            assert "repeat the train command of their run, which trains the fold again" in error
            assert error.count("\n") == 1
        assert not _is_finished(fold, by_test=False)
        if damaged is not None:
            continue
        assert train(options(prepared, copy.parent)) == 0
        assert f"warning: {weights}: no such file or directory; the fold is trained again" in capfd.readouterr().err
        assert weights.read_bytes() == content


@pytest.mark.parametrize("digest", ["kept", "removed"])
def test_defect_05_digest_of_halved_sums(copy: Path, capsys: pytest.CaptureFixture[str], digest: str) -> None:
    """Sums in scores.json moved the published errors. Without the digest they do not fit the scores beside them."""
    path = only_fold(copy) / "scores.json"
    content = json.loads(path.read_text())
    content["scores"]["recognition"]["accuracy"] /= 2
    if digest == "removed":
        del content["digest"]
    path.write_text(json.dumps(content))
    assert evaluate(["--run", str(copy)]) == 2
    error = capsys.readouterr().err
    assert f"damaged: {path.parent.name}" in error
    assert ("differs from its digest" if digest == "kept" else "give other scores than scores.json says") in error


def test_tables_of_earlier_versions_keep_the_identity_of_videos(copy: Path, run: Path) -> None:
    """They joined SUBJECT/VIDEO, had columns called like classes, and no digest."""
    fold = only_fold(copy)
    results = FoldResults.read(fold)
    assert results is not None
    path = fold / "scores.json"
    content = json.loads(path.read_text())
    for name in ("digest", "windows", "weights"):
        del content[name]
    content["classes"] = [f"c{number}" for number in range(8)]
    content["scores"]["recognition"]["classes"] = content["classes"]
    rows = []
    for window in results.evaluation.windows():
        label = f"c{window.label}"
        joined = f"sub01/{window.video.name.replace('/', '_')}{window.label}"
        values = ",".join(map(repr, window.probabilities))
        rows.append(f'"{joined}",0,{label},{label},{values}')
    header = ",".join(("video", "window", "label", "predicted", *content["classes"]))
    (fold / "windows.csv").write_text("\n".join([header, *rows]) + "\n")
    path.write_text(json.dumps(content))
    earlier = FoldResults.read(fold)
    assert earlier is not None
    assert {window.video.person for window in earlier.evaluation.windows()} == {("s", "sub01")}
    assert len(earlier.evaluation.videos()) == 8
    edit_json(copy / "config.json", lambda config: config.update(folds=[fold.name]))
    assert [item.name for item in read_run(copy).folds] == [fold.name]
    edit_json(copy / "config.json", lambda config: config.update(sources=["a", "b"]))
    assert evaluate(["--run", str(copy)]) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"folds": ["../../x-seed0"]}, "cannot be the name of a folder"),
        ({"folds": [{"name": "../x", "seed": 0}]}, "cannot be the name of a folder"),
        ({"folds": [{"name": "x", "seed": -1}]}, "at folds[0].seed"),
        ({"folds": [{"name": "x", "seed": 0, "subjects": ["s"]}]}, "at folds[0].subjects"),
        ({"folds": ["x"]}, "does not end with a seed"),
        ({"folds": ["x-seed0", "X-seed0"]}, "occurs twice"),
        ({"folds": []}, "length >= 1 at folds"),
        ({"folds": 5}, "at folds"),
        ({"sources": []}, "length >= 1 at sources"),
        ({"source": [], "sources": "s"}, "at sources"),
        ({"settings": {}}, "the settings do not say the steps"),
        ({"model": 3}, "at model"),
    ],
)
def test_defect_07_and_12_a_damaged_configuration_is_one_sentence_at_the_door(
    copy: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], sentence: str
) -> None:
    edit_json(copy / "config.json", lambda config: config.update(change))
    assert evaluate(["--run", str(copy)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": []}, "at classes"),
        ({"classes": ["a", "a"]}, "occurs twice"),
        ({"classes": ["a\nb"]}, "the character U+000A"),
        ({"sums": {"flow": {"pixels": -1}, "landmarks": {}}}, "these sums of flow errors cannot be"),
        ({"sums": {"flow": {"pixels": 1, "moving_pixels": 2}, "landmarks": {}}}, "these sums of flow errors cannot be"),
        ({"sums": {"flow": {}, "landmarks": {"failures": 3, "frames": 1}}}, "sums of landmark errors cannot be"),
        ({"sums": {"flow": {}, "landmarks": {"error": "1"}}}, "at sums.landmarks.error"),
        ({"sums": 5}, "at sums"),
        ({"scores": []}, "at scores"),
        ({"chosen_step": -3}, "at chosen_step"),
        ({"windows": "sha256:0"}, "not the table that scores.json was written with"),
    ],
)
def test_defect_07_damaged_scores_are_one_sentence_at_the_door(
    copy: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], sentence: str
) -> None:
    path = only_fold(copy) / "scores.json"
    content = {name: value for name, value in json.loads(path.read_text()).items() if name != "digest"}
    path.write_text(json.dumps({**content, **change}))
    assert evaluate(["--run", str(copy)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "a\nb", "x" * 260])
def test_defect_12_the_name_of_a_run_stays_inside_out(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert train([*options(prepared, tmp_path / "out")[:4], "--name", name]) == 2
    assert "--name is " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["a\nb", "x" * 260, "a\x1b[31m"])
def test_a_name_that_nothing_can_carry_is_refused_at_the_door(prepared: Path, tmp_path: Path, text: str) -> None:
    video = Video.from_file(prepared / "videos/0.safetensors")
    names = {"subject": "s", "video": "v", "label": "l", "source": "s"}
    for kind in names:
        with pytest.raises(ValueError, match=f"{kind} is .*, which cannot be used"):
            write_video(tmp_path / "v", *video.read(), **{**names, kind: text})
    assert not list(tmp_path.iterdir())
    shutil.copytree(prepared, tmp_path / "set")
    index = tmp_path / "set/index.csv"
    index.write_text(index.read_text().replace("表情", f'"{text}"'))
    assert train(["--data", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 2


def test_an_own_fold_that_cannot_be_read_back_is_an_error(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mol_fast.runs import fold_results

    monkeypatch.setattr(fold_results, "windows_table", lambda evaluation: "video,video\n")
    assert train(options(prepared, tmp_path)) == 2
    error = capsys.readouterr().err
    assert "was written but cannot be read back" in error
    assert "other processes" not in error


def test_the_identity_of_a_video_is_a_tuple(prepared: Path) -> None:
    assert Video.from_file(prepared / "videos/0.safetensors").id == VideoId("s", "a", "x/v")
