"""Parts that are not trained: they keep weights and statistics, and everything else goes on as ever."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness.compare import seeded
from harness.trainings import options, outcome
from torch import Tensor

import mol_fast.train
from mol_fast import MOL, PRESETS
from mol_fast.data import PreparedSet
from mol_fast.data.protocols import get_protocol
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.runs.folder import Fold
from mol_fast.train import main
from mol_fast.training.settings import TrainSettings
from mol_fast.training.start import check_start
from mol_fast.training.step import StepRecord
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject

pytestmark = pytest.mark.usefixtures("light")
CLASSES = ["negative", "positive", "surprise"]
STEPS = ("--steps", "3")
FROZEN = ("stem", "f5c_first", "f5c_second", "flow_head")


@pytest.fixture(scope="module")
def weights(light: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for micro-expression and flow, with statistics of their own, that have seen the subjects s02 and s03."""
    torch.manual_seed(4)
    model = MOL(config=replace(PRESETS["small"], tasks=("mer", "flow")))
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    for name, value in model.named_buffers():
        if value.is_floating_point():
            value += 0.1 if name.endswith("mean") else 0.5
    file = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(file, model, {"classes": CLASSES, "train_subjects": [["embedded", "s02"], ["embedded", "s03"]]})
    return file


def arguments(prepared: PreparedSet, out: Path, weights: Path, *more: str) -> list[str]:
    """Options of a training that starts from the weights and holds out s01."""
    return options(prepared, out, "--init", str(weights), "--test-subjects", "s01", "--tasks", "mer", "flow", *more)


def test_frozen_parts_stay_in_evaluation_and_pass_gradients_on():
    model = MOL(flow_width=0.02)
    model.freeze(["landmarks", "f5c"])
    assert model.frozen == ("f5c", "landmarks")
    frozen = [model.f5c_first, model.f5c_second, model.landmark_head]
    for mode in (True, False, True):
        model.train(mode)
        for module in model.modules():
            own = any(module in set(part.modules()) for part in frozen)
            assert module.training == (mode and not own)
    before = {name: value.clone() for name, value in model.f5c_first.named_buffers()}
    model(seeded(2, 1, 8, 128, 128)).logits.square().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.f5c_first.named_buffers())
    assert all(parameter.grad is None for part in frozen for parameter in part.parameters())
    gradient = model.stem.conv1.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
    model.freeze([])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def tensors(path: Path) -> dict[str, Tensor]:
    return load_weights(path)[0].state_dict()


def test_a_training_leaves_frozen_parts_and_resumes_to_the_bit(
    embedded_small: PreparedSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    more = (*STEPS, "--freeze", "flow,stem", "f5c")
    assert main(arguments(embedded_small, whole, weights, *more)) == 0

    def stop(advance: object, step: StepRecord) -> None:
        if step.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(mol_fast.train, "_show", stop)
        assert main(arguments(embedded_small, halves, weights, *more)) == 128 + signal.SIGTERM
    assert main(arguments(embedded_small, halves, weights, *more)) == 0
    assert outcome(halves) == outcome(whole)

    before, after = tensors(weights), tensors(whole / "run")
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (name.partition(".")[0] in FROZEN), name
    assert json.loads((whole / "run/config.json").read_text())["settings"]["freeze"] == ["stem", "f5c", "flow"]
    (fold,) = (whole / "run/folds").iterdir()
    assert json.loads((fold / "config.json").read_text())["settings"]["freeze"] == ["stem", "f5c", "flow"]
    assert "settings.freeze</th><td>stem, f5c, flow</td>" in (whole / "run/report.html").read_text()


def test_nothing_frozen_is_no_part_of_the_identity():
    """Runs of earlier versions resume; what is frozen belongs to a run."""
    assert "freeze" not in TrainSettings().identity()
    assert TrainSettings(freeze=("mer", "stem")).identity()["freeze"] == ("stem", "mer")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (("--freeze", "head"), "--freeze has no head: choose among stem, f5c, mer, flow, landmarks, units"),
        (
            ("--freeze", "landmarks"),
            "--freeze has no part landmarks in this model: choose among stem, f5c, mer, flow",
        ),
        (
            ("--freeze", "stem,f5c,mer,flow"),
            "--freeze names every part (stem, f5c, mer, flow), none is left to train: leave one out",
        ),
        (
            ("--freeze", "mer", "--protocol", "embedded-5"),
            "--freeze names mer, but this head, or its last layer, is not in ",
        ),
        (
            ("--freeze", "stem", "--model", "majority"),
            "--freeze names parts of MOL, which majority does not have: omit one of them",
        ),
    ],
)
def test_what_cannot_be_frozen(
    more: tuple[str, ...],
    error: str,
    embedded_small: PreparedSet,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert main(arguments(embedded_small, tmp_path, weights, *more)) == 2
    assert error in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_new_head_is_not_frozen(weights: Path):
    model = MOL(config=PRESETS["small"])
    model.freeze(["landmarks"])
    fold = Fold.of([Subject("embedded", "s01")], 0)
    with pytest.raises(UserError, match="--freeze names landmarks, but this head, or its last layer, is not in"):
        check_start(weights, model, [fold], get_protocol("embedded-3"))
