"""Action units that weights predict: of a clip, of its windows, and of a moment."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mol_fast
from mol_fast import MOL, PRESETS
from mol_fast.data import PreparedSet
from mol_fast.nn.weights import save_weights
from mol_fast.predict import main
from mol_fast.prediction.moments import _recognised
from mol_fast.spotting import Moment
from mol_fast.vision.facs import UNITS

SMILE = {12: 3.0, 6: 1.0}
"""Logits of the units that the weights below predict, whatever they see; those of the others are -2."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = MOL(config=replace(PRESETS["small"], tasks=("mer", "units")))
    assert model.unit_head is not None
    torch.nn.init.zeros_(model.unit_head.fc2.weight)
    with torch.no_grad():
        model.unit_head.fc2.bias.copy_(torch.tensor([SMILE.get(unit, -2.0) for unit in UNITS]))
    path = tmp_path_factory.mktemp("units") / "weights.safetensors"
    save_weights(path, model, {"classes": ["a", "b", "c"], "preset": "small"})
    return path


def test_a_clip(embedded_small: PreparedSet, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = str(embedded_small.videos[0].path)
    assert main([video, "--weights", str(weights), "--out", str(tmp_path), "--no-video"]) == 0
    assert "clip: action units AU12 0.95 (lip corner puller), AU6 0.73 (cheek raiser)" in capsys.readouterr().out
    content = json.loads((tmp_path / "prediction.json").read_text())
    expected = {f"AU{unit}": torch.tensor(SMILE.get(unit, -2.0)).sigmoid().item() for unit in UNITS}
    for told in (content["clip"], *content["windows"]):
        assert told["action_units"] == pytest.approx(expected, abs=1e-5)


def test_a_moment(embedded_small: PreparedSet, weights: Path) -> None:
    frames = embedded_small.videos[0].read().frames.numpy()
    result = mol_fast.predict(frames, weights, aligned=True)
    assert result.units is not None
    assert result.units.shape == (12,)
    moment = Moment(0, 3, 7, 0.0, 0.1, 0.2, "micro", 1.0, ())
    known = _recognised(moment, result.classes, result.windows[0], 0, 1)
    assert known.units is not None
    assert [(unit.number, round(unit.probability, 2)) for unit in known.units] == [(12, 0.95), (6, 0.73)]
    assert _recognised(moment, result.classes, None, 0, 1).units is None
    without = replace(result.windows[0], units=None)
    assert _recognised(moment, result.classes, without, 0, 1).units is None
