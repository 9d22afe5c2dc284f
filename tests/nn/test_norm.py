"""Batch normalisation per frame: a batch of frames gives what calls frame by frame give."""

import copy

import pytest
import torch
from harness.compare import randomise, run, seeded, state
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast.nn.norm import FrameBatchNorm2d

PAIRS = (0, 1, 1, 2, 2, 3)  # frame t, then t + 1, of every pair
ORDERS = [(0,), (0, 1, 2), PAIRS, (2, 0, 0, 1, 3)]


def norm(dtype: torch.dtype = torch.float64) -> FrameBatchNorm2d:
    module = FrameBatchNorm2d(3)
    randomise(module)
    return module.to(dtype)


def frame_by_frame(module: FrameBatchNorm2d, x: Tensor, calls: tuple[int, ...]) -> tuple[Tensor, nn.BatchNorm2d]:
    plain = nn.BatchNorm2d(3).to(module.weight.dtype)
    plain.load_state_dict(module.state_dict())
    frames = x.unflatten(0, (-1, max(calls) + 1))
    outputs = {frame: plain(frames[:, frame]) for frame in calls}
    return torch.stack([outputs[frame] for frame in sorted(outputs)], dim=1).flatten(0, 1), plain


@pytest.mark.parametrize("calls", ORDERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_frames_are_successive_calls(calls: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    module = norm(dtype)
    groups = max(calls) + 1
    offsets = torch.arange(groups, dtype=dtype)[:, None, None, None]
    x = (seeded(4, groups, 3, 2, 5, dtype=dtype) * (1 + offsets) - 3 * offsets).flatten(0, 1)
    leaf, twin = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, plain = frame_by_frame(module, twin, calls)
    actual = module(leaf, calls)
    g = seeded(*x.shape, seed=99, dtype=dtype)
    actual.backward(g)
    expected.backward(g)
    assert_close(actual, expected, atol=tolerance, rtol=tolerance)
    assert_close(leaf.grad, twin.grad, atol=tolerance, rtol=tolerance)
    assert_close(module.weight.grad, plain.weight.grad, atol=tolerance, rtol=10 * tolerance)
    assert_close(module.bias.grad, plain.bias.grad, atol=tolerance, rtol=10 * tolerance)
    for (name, buffer), wanted in zip(module.named_buffers(), plain.buffers(), strict=True):
        assert_close(buffer, wanted, atol=tolerance, rtol=tolerance, msg=name)
    assert int(module.get_buffer("num_batches_tracked")) == len(calls)


def test_evaluation_is_that_of_batch_norm() -> None:
    module = norm().eval()
    x = seeded(8, 3, 2, 5, dtype=torch.float64)
    plain = nn.BatchNorm2d(3).double().eval()
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x, PAIRS), plain(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_statistics_exact(dtype: torch.dtype) -> None:
    """In half precision the statistics are those of the rounded maps, in float32."""
    module = norm(torch.float32)
    exact = copy.deepcopy(module).double()
    x = seeded(8, 3, 6, 5).to(dtype)
    with torch.autocast("cpu", dtype):
        y = module(x, PAIRS)
    wanted = exact(x.double(), PAIRS)
    assert y.dtype == dtype
    for (name, buffer), value in zip(module.named_buffers(), exact.buffers(), strict=True):
        assert_close(buffer.double(), value.double(), rtol=1e-6, atol=1e-6, msg=name)
    assert_close(y.double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_half_precision_module() -> None:
    """A module all in bfloat16 computes in float32 and rounds its output and its statistics once."""
    module = norm(torch.bfloat16)
    exact = copy.deepcopy(module).double()
    x = seeded(8, 3, 6, 5).bfloat16()
    y = module(x, PAIRS)
    eps = torch.finfo(torch.bfloat16).eps
    assert_close(y.double(), exact(x.double(), PAIRS), rtol=eps, atol=1e-5)
    for value, wanted in zip(module.running(), exact.running(), strict=True):
        assert_close(value.double(), wanted, rtol=eps, atol=1e-6)


@pytest.mark.parametrize("calls", [(0,), PAIRS])
def test_no_frames_leave_no_trace(calls: tuple[int, ...]) -> None:
    module = norm()
    before = state(module)
    results = run(
        lambda params, x: torch.func.functional_call(module, params, (x, calls)),
        state(module),
        torch.zeros(0, 3, 2, 5, dtype=torch.float64),
        torch.zeros(0, 3, 2, 5, dtype=torch.float64),
    )
    assert torch.equal(results["running_mean"], before["running_mean"])
    assert torch.equal(results["running_var"], before["running_var"])
    assert torch.equal(results["weight"], torch.zeros_like(results["weight"]))


def test_large_mean_keeps_the_variance() -> None:
    """Variances are of centred values: a mean a thousand times the deviation costs no more than its rounding."""
    module = norm(torch.float32)
    exact = copy.deepcopy(module).double()
    x = 1000 + seeded(8, 3, 16, 16)
    module(x, (0, 1))
    exact(x.double(), (0, 1))
    assert_close(module.running()[1].double(), exact.running()[1], rtol=1e-5, atol=0)
