"""The joint loss held to the reference."""

import pytest
import torch
from harness.compare import seeded
from torch import Tensor
from torch.testing import assert_close

from mol_fast import JointLoss, MOLOutput
from mol_fast import reference as ref

B, T, K = 3, 5, 4


def outputs(dtype: torch.dtype = torch.float64) -> MOLOutput:
    return MOLOutput(
        seeded(B, K, dtype=dtype).requires_grad_(),
        seeded(B, 2, T - 1, 6, 7, seed=1, dtype=dtype).requires_grad_(),
        (64 + 20 * seeded(B, T - 1, 68, 2, seed=2)).to(dtype).requires_grad_(),
    )


def targets(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    flow = seeded(B, 2, T - 1, 6, 7, seed=3, dtype=dtype)
    return torch.tensor([0, 3, 1]), flow, (64 + 20 * seeded(B, T, 68, 2, seed=4)).to(dtype)


@pytest.mark.parametrize("weights", [(1.0, 10.0, 0.5), (2.0, 0.0, 0.1)])
def test_terms_and_gradients_are_those_of_the_reference(weights: tuple[float, float, float]) -> None:
    actual, expected = outputs(), outputs()
    terms = JointLoss(*weights)(actual, *targets())
    wanted = ref.losses(ref.Output(*expected), *targets(), weights)
    for name in ("expression", "flow", "landmarks", "total"):
        assert_close(getattr(terms, name), getattr(wanted, name), rtol=1e-12, atol=0)
    terms.total.backward()
    wanted.total.backward()
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-15)


def test_frame_0_is_not_compared() -> None:
    labels, flow, landmarks = targets()
    other = landmarks.clone()
    other[:, 0] = float("nan")
    output = outputs()
    assert torch.equal(
        JointLoss()(output, labels, flow, other).total, JointLoss()(output, labels, flow, landmarks).total
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_compared_in_float32(dtype: torch.dtype) -> None:
    labels, flow, landmarks = targets(torch.float32)
    half = outputs(dtype)
    single = MOLOutput(*(value.detach().float().requires_grad_() for value in half))
    terms = JointLoss()(half, labels, flow, landmarks)
    assert terms.total.dtype == torch.float32
    assert torch.equal(terms.total, JointLoss()(single, labels, flow, landmarks).total)
    terms.total.backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in half)


def test_perfect_estimates_have_no_error_and_finite_gradients() -> None:
    labels, flow, landmarks = targets()
    output = MOLOutput(
        seeded(B, K, dtype=torch.float64).requires_grad_(),
        flow.clone().requires_grad_(),
        landmarks[:, 1:].clone().requires_grad_(),
    )
    terms = JointLoss()(output, labels, flow, landmarks)
    assert terms.flow == terms.landmarks == 0
    terms.total.backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in output)


def test_wrong_shapes_are_named() -> None:
    labels, flow, landmarks = targets()
    with pytest.raises(ValueError, match=r"flow must have shape \(3, 2, 4, 6, 7\), got \(3, 2, 1, 6, 7\)"):
        JointLoss()(outputs(), labels, flow[:, :, :1], landmarks)
    with pytest.raises(ValueError, match=r"landmarks without frame 0 must have shape \(3, 4, 68, 2\)"):
        JointLoss()(outputs(), labels, flow, landmarks[:, 1:])


def test_stills_count_as_much_as_frames_of_clips() -> None:
    labels, flow, landmarks = targets()
    output, (stills, true) = outputs(), (64 + 20 * seeded(2, 7, 68, 2, seed=8, dtype=torch.float64)).unbind()
    terms = JointLoss()(output, labels, flow, landmarks, (stills, true))

    def per_frame(points: Tensor, wanted: Tensor) -> Tensor:
        eyes = (wanted[:, 36:42].mean(1) - wanted[:, 42:48].mean(1)).norm(dim=-1)
        return (points - wanted).abs().sum((1, 2)) / eyes / 68

    assert output.landmarks is not None
    frames = per_frame(output.landmarks.flatten(0, 1), landmarks[:, 1:].flatten(0, 1))
    every = torch.cat([frames, per_frame(stills, true)])
    assert_close(terms.landmarks, (T - 1) * every.mean())
