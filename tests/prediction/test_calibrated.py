"""Predictions with a temperature: less confident, never another class, and uncertain below a threshold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.predict_scene import write_weights

from mol_fast.metrics import temper
from mol_fast.nn.weights import load_weights
from mol_fast.prediction.exported import AlignedFrames
from mol_fast.prediction.predictor import predict
from mol_fast.prediction.result import Prediction, to_json
from mol_fast.prediction.terminal import print_prediction

TEMPERATURE = 0.2


def frames() -> np.ndarray:
    """24 aligned frames of one clip, hence three windows."""
    rng = np.random.default_rng(0)
    return np.clip(np.cumsum(rng.normal(0, 3, (24, 144, 144)), 0) + rng.uniform(60, 190, (144, 144)), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prediction, Prediction]:
    """The prediction of the same weights without and with a temperature."""
    folder = tmp_path_factory.mktemp("weights")
    files = write_weights(folder / "a.safetensors"), write_weights(folder / "b.safetensors", TEMPERATURE)
    plain, calibrated = (predict(frames(), file, aligned=True, device="cpu") for file in files)
    return plain, calibrated


def test_windows_and_clip_have_the_temperature(both: tuple[Prediction, Prediction]) -> None:
    plain, calibrated = both
    assert (plain.temperature, calibrated.temperature) == (None, TEMPERATURE)
    assert len(plain.windows) == 3
    for one, other in zip(plain.windows, calibrated.windows, strict=True):
        np.testing.assert_allclose(other.probabilities, temper(one.probabilities, TEMPERATURE), atol=1e-6)
    assert plain.probabilities is not None
    assert calibrated.probabilities is not None
    np.testing.assert_allclose(calibrated.probabilities, temper(plain.probabilities, TEMPERATURE), atol=1e-5)
    assert calibrated.label == plain.label
    assert calibrated.probabilities.max() > plain.probabilities.max() + 0.02


def test_what_is_uncertain_is_said(both: tuple[Prediction, Prediction], capsys, tmp_path: Path) -> None:
    _, calibrated = both
    assert calibrated.probabilities is not None
    best = float(calibrated.probabilities.max())
    for confidence, uncertain in ((best - 0.01, False), (best + 0.01, True)):
        result = replace(calibrated, confidence=confidence)
        print_prediction(result, (), tmp_path)
        text = f"clip: uncertain ({result.label} {best:.2f}), no class reaches {confidence:.2f}"
        assert (text in capsys.readouterr().out) == uncertain
        told = json.loads(to_json(result, {}))
        assert told["clip"]["uncertain"] == uncertain
        assert (told["temperature"], told["confidence"]) == (TEMPERATURE, confidence)


def test_an_exported_model_has_the_temperature(tmp_path: Path) -> None:
    model, _ = load_weights(write_weights(tmp_path / "a.safetensors"))
    clips = torch.from_numpy(frames()[None, :8, 8:136, 8:136].copy())
    with torch.no_grad():
        plain, tempered = (AlignedFrames(model, temperature)(clips)[0] for temperature in (1.0, TEMPERATURE))
    np.testing.assert_allclose(tempered, temper(plain.numpy(), TEMPERATURE), atol=1e-5)
