"""Attributions against their definitions: Grad-CAM, integrated gradients, and what CCC chose."""

import pytest
import torch

from mol_fast.explain.attribution import attribute, expression_model
from mol_fast.explain.evidence import evidence
from mol_fast.nn.f5c import CCC, F5C
from mol_fast.nn.model import MOL


def moving_model() -> tuple[MOL, torch.Tensor, torch.Tensor]:
    """A model whose blocks are no identity, two clips, and a class for each."""
    torch.manual_seed(0)
    lean = expression_model(MOL(flow_width=0.0625, tasks=("mer", "flow")))
    for block in (lean.f5c_first, lean.f5c_second):
        assert isinstance(block, F5C)
        assert block.ccc.mix is not None
        torch.nn.init.normal_(block.ccc.mix.weight, std=0.05)
        torch.nn.init.normal_(block.fcc.vh.kernel2, std=0.05)
    return lean, torch.randn(2, 1, 8, 128, 128), torch.tensor([2, 0])


def test_attributions_agree_with_their_definitions() -> None:
    lean, clips, labels = moving_model()
    found = attribute(lean, clips, labels)

    kept: dict[str, torch.Tensor] = {}
    for name in ("f5c_first", "f5c_second"):
        lean.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: kept.update({name: output}))
    scores = lean(clips.requires_grad_()).logits
    gradients = torch.autograd.grad(scores[[0, 1], labels].sum(), list(kept.values()))
    for cam, maps, gradient in zip((found.first, found.second), kept.values(), gradients, strict=True):
        expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).unflatten(0, (2, 7)).detach()
        assert torch.allclose(cam, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    assert found.frames is not None
    assert (found.frames[:, 0] == 0).all(), "the first frame is that of the still clip"
    times = found.times()
    assert times is not None
    assert torch.allclose(times.sum(1), torch.ones(2))
    assert {name: tuple(places.shape) for name, places in found.places().items()} == dict.fromkeys(
        ("first block", "second block", "frames", "neighbours"), (2, 16, 16)
    )
    assert all((places >= 0).all() for places in found.places().values())


def test_integrated_gradients_sum_to_the_difference_of_scores() -> None:
    torch.manual_seed(0)
    lean = expression_model(MOL(tasks=("mer",)))  # its CCC starts as the identity: no jumps where others are chosen
    clips = torch.randn(1, 1, 1, 128, 128) + 0.02 * torch.randn(1, 1, 8, 128, 128)
    found = attribute(lean, clips, torch.tensor([1])).frames
    assert found is not None
    with torch.no_grad():
        difference = float((lean(clips).logits - lean(clips[:, :, :1].expand_as(clips)).logits)[0, 1])
    assert float(found.sum()) == pytest.approx(difference, rel=0.05)


def test_the_expression_model_gives_the_same_scores() -> None:
    torch.manual_seed(0)
    model = MOL(flow_width=0.0625).eval()
    clips = torch.randn(1, 1, 8, 128, 128)
    with torch.no_grad():
        assert torch.equal(expression_model(model)(clips).logits, model(clips).logits)
    assert model.flow_head is not None


def test_evidence_of_channels() -> None:
    layer = CCC(4, 2, neighbors=2)
    maps = torch.tensor([[4.4, 1, 1, 1], [4.5, 1.4, 1, 1], [4.5, 1, 1.4, 1], [0, 0, 0, 1]])
    maps = maps.view(1, 4, 2, 2).repeat(7, 1, 1, 1)
    maps[::2, 0, 0, 0] = 4.6  # channel 0 moves in the first cell, and is between 1 and 2, which choose it
    found = evidence(layer, maps, 7)
    assert found is not None
    assert found.choices.sum((1, 2)).tolist() == [4]
    assert found.choices[0].diagonal().tolist() == [0] * 4
    assert found.choices[0, 1:3, 0].tolist() == [1, 1]
    assert found.places[0].argmax() == 0
    assert float(found.places.sum()) == pytest.approx(1)


def test_evidence_of_positions_and_of_none() -> None:
    layer = CCC(4, (2, 3), neighbors=3, variant="official")
    maps = torch.randn(7, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    found = evidence(layer, maps, 7)
    assert found is not None
    assert found.choices.shape == (1, 6, 6)
    assert torch.allclose(found.choices.sum(2), torch.full((1, 6), 2.0)), "each chooses two others"
    expected = found.choices.sum(1).view(1, 2, 3) * found.motion.mean(1)
    assert torch.allclose(found.places, expected / expected.sum())
    assert evidence(CCC(4, 2, neighbors=1), torch.randn(7, 4, 2, 2), 7) is None


def test_without_ccc_there_is_no_evidence_of_it() -> None:
    torch.manual_seed(0)
    lean = expression_model(MOL(tasks=("mer",), parts=("fcc",)))
    found = attribute(lean, torch.randn(1, 1, 8, 128, 128), torch.tensor([0]), frames=False)
    assert found.neighbours == (None, None)
    assert tuple(found.places()) == ("first block", "second block")
    assert found.times() is None


def test_still_maps_are_no_evidence() -> None:
    found = evidence(CCC(4, 2, neighbors=2), torch.randn(1, 4, 2, 2).repeat(7, 1, 1, 1), 7)
    assert found is not None
    assert not found.places.any()
