"""Ablations of the tasks: what is absent has no head, no loss, no score, and nothing else changes."""

import csv
import json
from pathlib import Path

import pytest
import torch
from harness.compare import seeded

from mol_fast import MOL, PRESETS, JointLoss, MOLConfig
from mol_fast.data import PreparedSet
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.predict import main as predict
from mol_fast.train import main
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError

SETS = [("mer",), ("mer", "flow"), ("mer", "landmarks")]
HEADS = {"flow": "flow_head", "landmarks": "landmark_head"}


@pytest.mark.parametrize("tasks", SETS)
def test_other_outputs_stay_as_they_are(tasks: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    whole = MOL(flow_width=0.05).eval()
    part = MOL(flow_width=0.05, tasks=tasks).eval()
    weights = whole.state_dict()
    absent = [head for task, head in HEADS.items() if task not in tasks]
    assert set(part.state_dict()) == {name for name in weights if name.partition(".")[0] not in absent}
    part.load_state_dict({name: weights[name] for name in part.state_dict()})
    clip = seeded(1, 1, 8, 128, 128)
    with torch.no_grad():
        expected, actual = whole(clip), part(clip)
    assert torch.equal(actual.logits, expected.logits)
    for task in HEADS:
        value = getattr(actual, task)
        assert torch.equal(value, getattr(expected, task)) if task in tasks else value is None


def test_absent_tasks_have_no_loss() -> None:
    labels, flow = torch.tensor([0, 2]), seeded(2, 2, 7, 128, 128)
    landmarks = 64 + 20 * seeded(2, 8, 68, 2, seed=1)
    output = MOL(flow_width=0.05, dropout=0.0)(seeded(2, 1, 8, 128, 128, seed=2))
    criterion = JointLoss(2.0, 10.0, 0.5)
    whole = criterion(output, labels, flow, landmarks)
    alone = criterion(output._replace(flow=None, landmarks=None), labels, flow, landmarks)
    assert (alone.flow, alone.landmarks) == (None, None)
    assert torch.equal(alone.total, 2 * whole.expression)
    without = criterion(output._replace(flow=None), labels, flow, landmarks)
    assert torch.equal(without.total, 2 * whole.expression + 0.5 * whole.landmarks)


def test_configuration_of_tasks() -> None:
    config = MOLConfig(tasks=("landmarks", "mer"))
    assert config.tasks == ("mer", "landmarks")
    assert MOLConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    older = {name: value for name, value in MOLConfig().to_dict().items() if name != "tasks"}
    assert MOLConfig.from_dict(older) == MOLConfig()
    with pytest.raises(ValueError, match="tasks must hold mer"):
        MOLConfig(tasks=("flow",))
    with pytest.raises(ValueError, match="tasks must be one of mer, flow, landmarks, units, got 'pose'"):
        MOLConfig(tasks=("mer", "pose"))


def test_settings_keep_the_order_of_the_tasks() -> None:
    assert TrainSettings(tasks=("flow", "mer")).tasks == ("mer", "flow")
    for tasks, sentence in ((("flow",), "lacks mer"), (("mer", "pose"), "has no pose"), ((), "lacks mer")):
        with pytest.raises(UserError, match=sentence):
            TrainSettings(tasks=tasks).check()


@pytest.mark.parametrize("tasks", ["mer", "mer,flow"])
def test_a_run_of_some_tasks(embedded_small: PreparedSet, tmp_path: Path, tasks: str) -> None:
    options = ["--data", str(embedded_small.path), "--out", str(tmp_path), "--name", "run", "--steps", "2"]
    assert main([*options, "--batch-size", "2", "--precision", "float32", "--tasks", tasks]) == 0
    run = tmp_path / "run"
    (fold,) = (run / "folds").iterdir()
    model, info = load_weights(fold)
    assert info["config"]["tasks"] == tasks.split(",")
    assert {name.partition(".")[0] for name in model.state_dict()}.isdisjoint(
        head for task, head in HEADS.items() if task not in tasks
    )
    with open(fold / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {"mer": "expression"}
    expected = {names.get(task, task) for task in tasks.split(",")}
    assert set(rows[0]) == {"step", "total", "lr", "gradient_norm"} | expected
    scores = json.loads((run / "scores.json").read_text())["seeds"]["0"]
    assert scores["landmarks"] is None
    assert (scores["flow"] is None) == ("flow" not in tasks)
    assert main([*options, "--batch-size", "2", "--precision", "float32", "--tasks", tasks]) == 0, "only read"
    page = (run / "report.html").read_text()
    assert "inter-ocular" not in page


def test_prediction_without_flow_and_landmarks(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    torch.manual_seed(0)
    model = MOL(config=replace(PRESETS["small"], tasks=("mer",)))
    save_weights(tmp_path / "weights.safetensors", model, {"classes": ["a", "b", "c"], "preset": "small"})
    video, out = embedded_small.videos[0], tmp_path / "out"
    assert predict([str(video.path), "--weights", str(tmp_path / "weights.safetensors"), "--out", str(out)]) == 0
    assert "the weights were trained without flow and landmarks" in capfd.readouterr().out
    content = json.loads((out / "prediction.json").read_text())
    assert sum(content["clip"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert {(item["mean_flow"], item["landmarks"]) for item in content["windows"]} == {(None, None)}
    assert (out / "annotated.mp4").stat().st_size > 1000
