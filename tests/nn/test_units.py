"""The head for action units and its loss: an addition that leaves everything else as it is."""

import pytest
import torch
from harness.compare import randomise, seeded, state
from torch.testing import assert_close

from mol_fast import MOL, JointLoss, MOLOutput, MOLUnitsOutput
from mol_fast import reference as ref
from mol_fast.nn.config import PAPER_TASKS, TASKS
from mol_fast.nn.flow_head import DIFFERENCE_SCALE
from mol_fast.vision.facs import UNKNOWN

FRAMES = 5


def model(tasks: tuple[str, ...]) -> MOL:
    torch.manual_seed(0)
    return MOL(3, flow_width=0.05, frames=FRAMES, tasks=tasks)


def test_the_other_outputs_stay_as_they_are() -> None:
    """Weights, dropout and outputs to the bit, in training; without the task, an output has three values."""
    clip, stills = seeded(2, 1, FRAMES, 128, 128), seeded(3, 1, 128, 128, seed=1)
    outputs = []
    for tasks in (PAPER_TASKS, TASKS):
        module = model(tasks).train()
        torch.manual_seed(1)
        outputs.append(module(clip, stills))
    (plain, points), (more, again) = outputs
    assert type(plain) is MOLOutput
    assert type(more) is MOLUnitsOutput
    assert len(plain) == 3
    assert more.units.shape == (2, 12)
    assert all(torch.equal(one, other) for one, other in zip((*plain, points), (*more[:3], again), strict=True))
    assert set(model(TASKS).state_dict()) > set(model(PAPER_TASKS).state_dict())


def test_the_head_is_the_reference() -> None:
    """That of the expressions, with weights of its own."""
    module = model(TASKS).double().eval()
    for part in (module.f5c_first, module.f5c_second):
        randomise(part)
    params = state(module)
    own = {name.replace("unit_head", "expression_head"): value for name, value in params.items() if "unit_head" in name}
    clip = seeded(2, 1, FRAMES, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        exact = ref.mol({**params, **own}, clip, 4, "paper", False, 0.0, 4.0, DIFFERENCE_SCALE)
        assert_close(module(clip).units, exact.logits, atol=1e-10, rtol=1e-9)


def output(units: torch.Tensor) -> MOLUnitsOutput:
    return MOLUnitsOutput(seeded(len(units), 3, seed=7, dtype=units.dtype), None, None, units)


def test_the_loss_is_the_mean_over_what_is_known() -> None:
    logits = seeded(4, 12, dtype=torch.float64).requires_grad_()
    truth = torch.randint(2, (4, 12), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    truth[1], truth[2, 5] = UNKNOWN, UNKNOWN
    labels, nothing = torch.tensor([0, 2, 1, 1]), torch.zeros(4)
    terms = JointLoss(2.0, units=3.0)(output(logits), labels, nothing, nothing, units=truth)
    assert terms.units is not None
    assert_close(terms.units, ref.unit_loss(logits, truth))
    assert_close(terms.total, 2 * terms.expression + 3 * terms.units)
    assert terms.detach()._fields == ("total", "expression", "flow", "landmarks", "units")
    halved = terms.mean(lambda values: values / 2)
    assert (halved.flow, halved.landmarks) == (None, None)
    assert_close(halved.units, terms.units.detach() / 2)
    terms.total.backward()
    assert logits.grad is not None
    assert not logits.grad[1].any()
    assert not logits.grad[2, 5]
    assert logits.grad[0].all()


def test_a_batch_of_which_nothing_is_known_has_no_loss_and_gradients_of_zero() -> None:
    logits = (1e3 * seeded(2, 12)).requires_grad_()
    labels, nothing = torch.tensor([0, 2]), torch.zeros(2)
    truth = torch.full((2, 12), UNKNOWN, dtype=torch.int8)
    terms = JointLoss()(output(logits), labels, nothing, nothing, units=truth)
    assert terms.units == 0
    terms.total.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_missing_and_misshapen_truth_is_named() -> None:
    labels, nothing = torch.tensor([0, 2]), torch.zeros(2)
    with pytest.raises(ValueError, match="units must be given for a model with the task units"):
        JointLoss()(output(seeded(2, 12)), labels, nothing, nothing)
    with pytest.raises(ValueError, match=r"units must have shape \(2, 12\), got \(2, 11\)"):
        JointLoss()(output(seeded(2, 12)), labels, nothing, nothing, units=torch.zeros(2, 11))
