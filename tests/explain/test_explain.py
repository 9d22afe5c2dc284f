"""`mol_fast.explain`: one call from aligned frames and weights to places, regions and a sentence."""

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import mol_fast
from mol_fast.data import PreparedSet
from mol_fast.explain import ELSEWHERE, METHOD, METHODS, Explanation
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import save_weights
from mol_fast.spotting import REGIONS
from mol_fast.utils.errors import UserError


@pytest.fixture(scope="module")
def frames(embedded_small: PreparedSet) -> npt.NDArray[np.uint8]:
    return next(video for video in embedded_small.videos if video.label == "happiness").read().frames.numpy()


def weights_of(folder: Path, landmarks: torch.Tensor, **options: object) -> Path:
    """Write weights that were never trained, but know a mean face."""
    torch.manual_seed(0)
    model = MOL(num_classes=2, flow_width=0.0625, **options)
    if model.landmark_head is not None:
        model.landmark_head.start_at(landmarks)
    save_weights(folder / "w.safetensors", model, {"classes": ["calm", "glad"], "temperature": 1.7})
    return folder / "w.safetensors"


@pytest.fixture(scope="module")
def face(embedded_small: PreparedSet) -> torch.Tensor:
    return embedded_small.videos[0].read().landmarks[0] - 8


def test_one_call(frames: npt.NDArray[np.uint8], face: torch.Tensor, tmp_path: Path) -> None:
    weights = weights_of(tmp_path, face)
    found = mol_fast.explain(frames, weights)
    predicted = mol_fast.predict(frames, weights, aligned=True)
    assert found.label == predicted.label
    assert found.probability == pytest.approx(predicted.probabilities.max(), abs=1e-5)
    assert tuple(found.places) == METHODS
    assert found.regions is not None
    for method, places in found.places.items():
        assert places.shape == (16, 16)
        assert float(places.sum()) == pytest.approx(1, abs=1e-5)
        assert tuple(found.regions[method]) == (*REGIONS, ELSEWHERE)
        assert sum(found.regions[method].values()) == pytest.approx(1, abs=1e-5)
    assert found.times is not None
    assert float(found.times.sum()) == pytest.approx(1, abs=1e-5)
    assert found.sentence == "nothing moves", "flow starts at zero"
    assert (found.moved, found.units) == ((), ())
    assert {channel.block for channel in found.channels} == {"first", "second"}
    for channel in found.channels:
        assert channel.channel not in channel.choosers
        assert channel.region in REGIONS
        assert channel.chosen_by >= 1
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert np.shape(told["places"]["frames"]) == (16, 16)
    assert told["regions"]["frames"].keys() == {*REGIONS, ELSEWHERE}
    assert told["class"] == found.label
    assert told["method"] == METHOD
    np.testing.assert_allclose(found.attribution, (found.places["first block"] + found.places["second block"]) / 2)
    assert float(found.pairs.sum()) == pytest.approx(1, abs=1e-5)
    assert found.pairs.shape == (7,)
    assert found.shares is not None
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-5)
    assert told["shares"]["chin"] == pytest.approx(found.shares["chin"], abs=1e-4)
    assert told["shares"].keys() == {*REGIONS, ELSEWHERE}


def test_predictions_are_explained_on_demand(frames: npt.NDArray[np.uint8], face: torch.Tensor, tmp_path: Path) -> None:
    """Even where gradients are switched off, and with the class that the prediction tells."""
    weights = weights_of(tmp_path, face)
    with torch.no_grad():
        result = mol_fast.predict(frames[:8], weights, aligned=True, explain=True)
    (window,) = result.windows
    found = window.explanation
    expected = mol_fast.explain(frames[:8], weights)
    assert found is not None
    assert (found.label, found.sentence) == (expected.label, expected.sentence)
    assert found.probability == pytest.approx(float(window.probabilities.max()))
    np.testing.assert_allclose(found.attribution, expected.attribution, atol=1e-4)
    np.testing.assert_allclose(found.pairs, expected.pairs, atol=1e-3)
    assert found.shares == pytest.approx(expected.shares, abs=1e-3)
    assert found.times is None, "integrated gradients take seven times as long"
    assert mol_fast.predict(frames[:8], weights, aligned=True).windows[0].explanation is None


def test_a_class_that_is_given(frames: npt.NDArray[np.uint8], face: torch.Tensor, tmp_path: Path) -> None:
    weights = weights_of(tmp_path, face, tasks=("mer",))
    calm, glad = (mol_fast.explain(frames[:8], weights, label=label) for label in ("calm", "glad"))
    assert (calm.label, glad.label) == ("calm", "glad")
    assert calm.probability + glad.probability == pytest.approx(1)
    assert not np.allclose(calm.places["first block"], glad.places["first block"])
    assert np.allclose(calm.places["neighbours"], glad.places["neighbours"]), "the evidence belongs to no class"
    with pytest.raises(ValueError, match="label is 'sad', the classes are calm, glad"):
        mol_fast.explain(frames[:8], weights, label="sad")


@pytest.mark.parametrize("tasks", [("mer", "landmarks"), ("mer", "flow")])
def test_weights_without_a_task(
    tasks: tuple[str, ...], frames: npt.NDArray[np.uint8], face: torch.Tensor, tmp_path: Path
) -> None:
    found: Explanation = mol_fast.explain(frames[:8], weights_of(tmp_path, face, tasks=tasks))
    assert (found.sentence, found.moved, found.units) == (None, None, None)
    assert (found.regions is None) == ("landmarks" not in tasks)
    assert tuple(found.places) == METHODS
    json.dumps(found.to_dict(), allow_nan=False)


def test_weights_of_the_official_variant(frames: npt.NDArray[np.uint8], face: torch.Tensor, tmp_path: Path) -> None:
    found = mol_fast.explain(frames[:8], weights_of(tmp_path, face, variant="official", tasks=("mer", "landmarks")))
    assert found.channels == (), "its nodes are positions"
    assert found.places["neighbours"].sum() == pytest.approx(1, abs=1e-5)


def test_bad_input(
    frames: npt.NDArray[np.uint8], face: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(tmp_path, face)
    with pytest.raises(UserError, match="frames has 7 frames, at least 8 are needed"):
        mol_fast.explain(frames[:7], weights)
    with pytest.raises(ValueError, match="frames must be uint8"):
        mol_fast.explain(frames.astype(np.float32), weights)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frames must be uint8"):
        mol_fast.explain(frames[0], weights)
    with pytest.raises(UserError, match="no weights at"):
        mol_fast.explain(frames, tmp_path / "nothing")
    (tmp_path / "longer").mkdir()
    with pytest.raises(UserError, match="read clips of 16 frames, explanations need 8"):
        mol_fast.explain(frames, weights_of(tmp_path / "longer", face, frames=16, tasks=("mer",)))
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UserError, match=r"explanations need captum: pip install 'mol-fast\[explain\]'"):
        mol_fast.explain(frames, weights)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(UserError, match=r"explanations need scipy.optimize: pip install"):
        mol_fast.explain(frames, weights)
