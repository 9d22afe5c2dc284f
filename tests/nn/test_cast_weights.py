"""Weights cast together: the numbers of autocast, with channels of zeros on a GPU, and parameters as they were."""

from contextlib import nullcontext
from functools import cache

import pytest
import torch
from harness.compare import randomise, seeded
from torch import Tensor, nn

from mol_fast import MOL, JointLoss, MOLOutput
from mol_fast.nn import layout
from mol_fast.nn.cast_weights import CastWeights
from mol_fast.nn.flow_layers import Deconv

FRAMES = 5
EPS = torch.finfo(torch.bfloat16).eps


def model(**options: object) -> MOL:
    """The narrowest whose maps in the decoder are padded on a GPU, without dropout, all of its parts at work."""
    torch.manual_seed(0)
    module = MOL(3, **{"flow_width": 0.125, "frames": FRAMES, "dropout": 0.0, **options})  # type: ignore[arg-type]
    for block in (module.f5c_first, module.f5c_second):
        randomise(block)
    assert module.flow_head is not None
    nn.init.normal_(module.flow_head.predict0.weight, std=0.1)
    return module.train()


def run(module: MOL, exact: bool = False, device: str = "cpu") -> tuple[MOLOutput, dict[str, Tensor]]:
    """Output and gradients of a training step, under bfloat16 autocast on `device` or in float64."""
    kind, dtype = ("cpu", torch.float64) if exact else (device, torch.float32)
    clips, flow = seeded(2, 1, FRAMES, 128, 128, dtype=dtype), seeded(2, 2, FRAMES - 1, 128, 128, seed=1, dtype=dtype)
    landmarks, labels = 64 + 20 * seeded(2, FRAMES, 68, 2, seed=2, dtype=dtype), torch.tensor([0, 2])
    module = module.to(kind, dtype)
    with torch.autocast(kind, torch.bfloat16, enabled=not exact):
        output = module(clips.to(kind))
    module.zero_grad()
    JointLoss()(output, *(value.to(kind) for value in (labels, flow, landmarks))).total.backward()
    found = MOLOutput(*(value.detach().cpu() for value in output if value is not None))
    return found, {name: value.grad.cpu() for name, value in module.named_parameters()}


@cache
def of_autocast(device: str) -> tuple[MOLOutput, dict[str, Tensor]]:
    """Output and gradients by autocast alone, run once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CastWeights, "cast", lambda self, like, but: nullcontext())
        return run(model(), device=device)


@pytest.mark.parametrize("recompute", [False, True])
def test_bits_are_those_of_autocast(recompute: bool) -> None:
    """Also where maps of the decoder are computed twice."""
    module = model()
    module.flow_head.recompute = recompute
    output, gradients = run(module)
    plain, expected = of_autocast("cpu")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(output, plain, strict=True))
    for name, value in expected.items():
        assert torch.equal(gradients[name], value), name


NATIVE = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NATIVE)])
def test_zero_channels_change_nothing_but_rounding(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As near to float64 as autocast alone, in all outputs and gradients; the CPU does here what a GPU does."""
    module = model()
    plain, without = of_autocast(device)
    monkeypatch.setattr(layout, "on_gpu", lambda x: True)
    layout.channels_last(module)
    seen: list[tuple[int, ...]] = []
    forward = Deconv.forward

    def deconvolve(self: Deconv, x: Tensor) -> Tensor:  # a hook would say that channels must not be added
        if self is module.flow_head.deconv3:
            seen.append(tuple(x.shape))
        return forward(self, x)

    monkeypatch.setattr(Deconv, "forward", deconvolve)
    module.flow_head.conv3_1.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    output, gradients = run(module, device=device)
    true, exact = run(module, exact=True)
    assert [shape[1] for shape in seen] == [488, 104, 488, 98]
    for ours, theirs, value in zip(output, plain, true, strict=True):
        error, allowed = ((found.double() - value).norm() for found in (ours, theirs))
        assert error <= 2 * allowed + EPS * value.norm()
    for name, value in exact.items():
        error, allowed = ((found[name].double() - value).norm() for found in (gradients, without))
        assert error <= 2 * allowed + EPS * value.norm(), name


@pytest.mark.parametrize("width", [0.05, 0.3])
def test_odd_widths_work_without_zero_channels(width: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "on_gpu", lambda x: True)
    module = model(flow_width=width)
    assert not module.flow_head.padded_channels()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert module(seeded(1, 1, FRAMES, 128, 128)).flow.isfinite().all()


def test_weights_are_cast_and_padded_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "on_gpu", lambda x: True)
    layers = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.Linear(4, 5), nn.Linear(2, 2).double(), nn.BatchNorm2d(2))
    layers.to(memory_format=torch.channels_last)
    conv, linear, double, norm = layers
    before = list(layers.parameters())
    cast = CastWeights([layers], lambda: {conv: (8, 16)})
    x = torch.zeros(1)
    with torch.autocast("cpu", torch.bfloat16), cast.cast(x):
        weight, other, bias = conv.weight, linear.weight, linear.bias
        assert (double.weight.dtype, norm.weight.dtype) == (torch.float64, torch.float32)
    assert all(now is then for now, then in zip(layers.parameters(), before, strict=True))
    assert torch.equal(other, linear.weight.bfloat16())
    assert torch.equal(bias, linear.bias.bfloat16())
    assert torch.equal(weight[:2, :3], conv.weight.bfloat16())
    assert weight.shape == (8, 16, 3, 3)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight[2:].any()
    assert not weight[:, 3:].any()
    g = seeded(8, 16, 3, 3).bfloat16()
    weight.backward(g)
    assert torch.equal(conv.weight.grad, g[:2, :3].float())
    assert linear.weight.grad is None
    layers.double()
    with torch.autocast("cpu", torch.bfloat16), cast.cast(x):
        assert {value.dtype for value in layers.parameters()} == {torch.float64}
    layers.float()
    before = list(layers.parameters())
    with pytest.raises(KeyError), torch.autocast("cpu", torch.bfloat16), cast.cast(x):
        raise KeyError
    assert all(now is then for now, then in zip(layers.parameters(), before, strict=True))
