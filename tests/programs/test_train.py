"""The training program: a few steps end to end, repeatability, and what it says of bad input."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from harness.trainings import options_once
from safetensors.torch import load_file

from mol_fast.data import PreparedSet
from mol_fast.nn.config import PRESETS, MOLConfig
from mol_fast.nn.weights import load_weights
from mol_fast.train import main
from mol_fast.training.loop import learning_rate_factor
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.sealed import pack, unpack

pytestmark = pytest.mark.usefixtures("light")

TERMS = ("total", "expression", "flow", "landmarks")


def options(prepared: PreparedSet, out: Path, name: str, *more: str) -> list[str]:
    common = {"--data": str(prepared.path), "--out": str(out), "--name": name}
    return options_once(common | {"--batch-size": "2", "--precision": "float32"}, more)


def losses(run: Path) -> list[tuple[str, ...]]:
    with open(run / "metrics.csv", newline="") as file:
        return [tuple(row[term] for term in TERMS) for row in csv.DictReader(file)]


def only_fold(run: Path) -> Path:
    (fold,) = (run / "folds").iterdir()
    return fold


@pytest.fixture(scope="module")
def run(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps on the small set."""
    out = tmp_path_factory.mktemp("runs")
    assert main(options(embedded_small, out, "three", "--steps", "3")) == 0
    return out / "three"


@pytest.mark.parametrize("subject", [0, -1])
def test_defect_01_a_fault_in_a_video_is_found_at_the_door(
    embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], subject: int
) -> None:
    """It names the file before the first step, in training and in held-out subjects alike."""
    folder = tmp_path / "set"
    shutil.copytree(embedded_small.path, folder)
    video = next(v for v in PreparedSet.open(folder).videos if v.subject == embedded_small.subjects[subject])
    data = video.read()
    landmarks = data.landmarks.clone()
    landmarks[-1, 0, 0] = torch.nan
    header = {"subject": video.subject, "video": video.name, "label": video.label, "source": video.source}
    video.path.write_bytes(pack({**data._asdict(), "landmarks": landmarks}, header | {"format": "1"}))
    more = ["--data", str(folder), "--out", str(tmp_path / "runs"), "--steps", "1", "--batch-size", "1"]
    assert main(more) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith(f"error: {video.path} cannot be used: the landmarks of frame")
    assert not (tmp_path / "runs").exists()


def test_writes_the_whole_run(run: Path, embedded_small: PreparedSet) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["steps"] == 3
    assert config["environment"]["torch"] == torch.__version__
    assert len(losses(only_fold(run))) == 3
    scores = json.loads((run / "scores.json").read_text())["seeds"]["0"]
    subjects = embedded_small.subjects[-2:]
    held_out = [v for v in embedded_small.videos if v.subject in subjects and v.label != "others"]
    assert sum(map(sum, scores["recognition"]["confusion"])) == len(held_out)
    with open(run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["source"], row["subject"], row["video"]) for row in rows}
    assert found == {("embedded", v.subject, v.name) for v in held_out}
    assert len(rows) == len(held_out)
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in scores["recognition"]["classes"]) == pytest.approx(1)
    assert list(only_fold(run).glob("events.out.tfevents.*"))
    assert not list(only_fold(run).glob("checkpoints/*"))
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64") > 6
    assert not re.search(r"(src|href)=.https?://", page)


def test_weights_rebuild_the_model(run: Path) -> None:
    model, info = load_weights(run)
    assert info["classes"] == ["negative", "positive", "surprise"]
    assert info["steps"] == 3
    assert model.config.flow_width == PRESETS["small"].flow_width < 1
    with torch.no_grad():
        assert model(torch.randn(1, 1, 8, 128, 128)).logits.shape == (1, 3)


def test_a_fold_says_what_made_it(run: Path, embedded_small: PreparedSet) -> None:
    text = (only_fold(run) / "config.json").read_text()
    config = json.loads(text)
    model, info = load_weights(run)
    first, *held_out = embedded_small.subjects
    assert (config["seed"], config["precision"]) == (0, "float32")
    assert config["train_subjects"] == [["embedded", first]]
    assert config["test_subjects"] == [["embedded", subject] for subject in held_out]
    for name in ("classes", "preset", "protocol", "sources", "train_subjects", "test_subjects"):
        assert config[name] == info[name]
    assert MOLConfig.from_dict(config["model"]) == model.config
    assert config["settings"]["steps"] == 3
    assert config["settings"]["lr"] == TrainSettings().lr
    told = {*config, *config["settings"], *config["model"]}
    assert told >= {name for name in TrainSettings().identity() if name not in ("folds", "seeds")}
    assert not set(config["settings"]) & {*config, *config["model"]}, "nothing is said twice"
    assert str(run.parent) not in text


def test_same_seed_same_losses(run: Path, embedded_small: PreparedSet, tmp_path: Path) -> None:
    assert main(options(embedded_small, tmp_path, "again", "--steps", "3")) == 0
    again, first = only_fold(tmp_path / "again"), only_fold(run)
    assert losses(again) == losses(first)
    assert (again / "config.json").read_bytes() == (first / "config.json").read_bytes()
    weights = load_file(again / "weights.safetensors"), load_file(first / "weights.safetensors")
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert main(options(embedded_small, tmp_path, "other", "--steps", "1", "--seed", "1")) == 0
    assert losses(only_fold(tmp_path / "other"))[0] != losses(first)[0]
    assert json.loads((only_fold(tmp_path / "other") / "config.json").read_text())["seed"] == 1


def test_ablations_and_subjects(embedded_small: PreparedSet, tmp_path: Path) -> None:
    subject = embedded_small.subjects[0]
    more = ["--steps", "1", "--no-center", "--no-difference", "--test-subjects", subject, "--protocol", "embedded-5"]
    assert main(options(embedded_small, tmp_path, "run", *more)) == 0
    model, info = load_weights(tmp_path / "run")
    assert not model.config.center
    assert not model.config.difference
    assert len(info["classes"]) == 5
    assert info["test_subjects"] == [["embedded", subject]]


def test_loss_not_finite_keeps_the_last_good_weights(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The check at the door, which would refuse the values that make the loss not finite, is left out."""
    monkeypatch.setattr("mol_fast.train.check_videos", lambda videos, on_progress: None)
    broken = tmp_path / "set"
    for file in embedded_small.path.rglob("*"):
        if file.is_file():
            target = broken / file.relative_to(embedded_small.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    _poison(broken, [video for video in embedded_small.videos if video.subject == embedded_small.subjects[0]])
    subject = embedded_small.subjects[-1]
    more = ["--test-subjects", subject, "--schedule", "constant", "--selection", "test", "--score-every", "1"]
    prepared = PreparedSet.open(broken)
    code = main(options(prepared, tmp_path, "run", "--steps", "50", *more))
    error = capfd.readouterr().err
    found = re.search(r"error: the loss is not finite at step (\d+) of fold", error)
    assert code == 2
    assert found is not None, error
    _, info = load_weights(tmp_path / "run")
    fold = only_fold(tmp_path / "run")
    good = int(found[1]) - 1
    assert info["steps"] == good == len(losses(fold)) > 0
    assert main(options(prepared, tmp_path, "shorter", "--steps", str(good), *more)) == 0
    weights, same = (load_file(path / "weights.safetensors") for path in (fold, only_fold(tmp_path / "shorter")))
    assert weights.keys() == same.keys()
    for name, value in same.items():
        assert torch.equal(weights[name], value), name


def _poison(folder: Path, videos: list) -> None:
    """Put a flow that is not a number into files of `folder`, which the checked writer would refuse."""
    for video in videos:
        path = folder / "videos" / video.subject / f"{video.name}.safetensors"
        tensors, metadata = unpack(path)
        flow = tensors["flow"].clone()
        flow[:, :, 72, 72] = torch.nan
        path.write_bytes(pack({**tensors, "flow": flow}, metadata))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--protocol", "samm-9"], "there is no protocol 'samm-9'"),
        (["--test-subjects", "s99"], "there is no subject s99"),
        (["--folds", "s01", "s99"], "there is no subject s99"),
        (["--seeds", "0"], "--seeds must be from 1 to 1000, got 0"),
        (["--seeds", "2000000000"], "--seeds must be from 1 to 1000, got 2000000000"),
        (["--test-subjects", "s01", "s02", "s03"], "none is left to train"),
        (["--neighbors", "129"], "neighbors must be from 1 to the number of nodes, 128, got 129"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--steps", "0"], "--steps must be from 1 to"),
        (["--batch-size", "0"], "--batch-size must be from 1 to 4096, got 0"),
        (["--lr", "nan"], "--lr must be"),
        (["--workers", "-1"], "--workers must be from 0 to 256, got -1"),
    ],
)
def test_bad_input_is_one_sentence(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    code = main(options(embedded_small, tmp_path, "run", *more))
    error = capfd.readouterr().err
    assert code == 2
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused(
    run: Path, embedded_small: PreparedSet, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (only_fold(run) / "metrics.csv").read_bytes()
    assert main(options(embedded_small, run.parent, run.name, "--steps", "4")) == 2
    assert "steps is 3 there and 4 here" in capfd.readouterr().err
    assert (only_fold(run) / "metrics.csv").read_bytes() == before


def test_a_folder_of_something_else_is_refused(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine")
    assert main(options(embedded_small, tmp_path, "run", "--steps", "1")) == 2
    assert "is not empty and not a run" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_finished_run_is_only_read(run: Path, embedded_small: PreparedSet) -> None:
    weights = only_fold(run) / "weights.safetensors"
    before = weights.stat().st_mtime_ns, (run / "scores.json").read_bytes()
    assert main(options(embedded_small, run.parent, run.name, "--steps", "3")) == 0
    assert (weights.stat().st_mtime_ns, (run / "scores.json").read_bytes()) == before


def test_learning_rate() -> None:
    settings = TrainSettings(steps=100, warmup=10)
    factors = [learning_rate_factor(settings, step) for step in range(100)]
    assert factors[0] == 0.1
    assert factors[9] == factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert 0 < factors[99] < 0.001
    constant = TrainSettings(steps=100, warmup=0, schedule="constant")
    assert {learning_rate_factor(constant, step) for step in range(100)} == {1.0}
