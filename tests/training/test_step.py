"""A step of training: its operators, and what it does with numbers that are not finite."""

import pytest
import torch
from harness.compare import seeded
from torch import Tensor

from mol_fast import MOL, JointLoss
from mol_fast.training.fabric import make_fabric
from mol_fast.training.step import Held, TrainingStep

FRAMES = 5


def step() -> tuple[MOL, TrainingStep]:
    torch.manual_seed(0)
    fabric = make_fabric("cpu", "float32")
    model = MOL(3, flow_width=0.05, frames=FRAMES).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    return model, TrainingStep(fabric, model, *fabric.setup(model, optimizer), JointLoss(), 5.0)


def batch(seed: int) -> dict[str, Tensor]:
    return {
        "frames": seeded(2, 1, FRAMES, 128, 128, seed=seed),
        "label": torch.tensor([0, 2]),
        "flow": seeded(2, 2, FRAMES - 1, 128, 128, seed=seed + 10),
        "landmarks": 64 + 20 * seeded(2, FRAMES, 68, 2, seed=seed + 20),
    }


def values(model: MOL) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("spoilt", ["frames", "flow"])
def test_a_broken_step_changes_nothing_nor_does_any_after(spoilt: str) -> None:
    """Frames spoil the running statistics in the forward pass, the true flow only the loss."""
    model, take = step()
    start = values(model)
    take(batch(0), 1e-3)
    good = values(model)
    changed = [name for name, value in start.items() if not torch.equal(good[name], value)]
    assert len(changed) > len(start) / 2
    broken = batch(1)
    broken[spoilt].view(-1)[7] = torch.nan
    for given in (broken, batch(2)):
        take(given, 1e-3)
        for name, value in values(model).items():
            assert torch.equal(value, good[name]), name


def test_held_values_come_back_whatever_replaced_them() -> None:
    tensors = [torch.tensor([1.5, -2.0]), torch.tensor(2**60 + 1), torch.ones(2, 3, dtype=torch.float64)]
    before = [tensor.clone() for tensor in tensors]
    held = Held(tensors)
    for tensor, value in zip(tensors, (torch.nan, 7, torch.inf), strict=True):
        tensor.fill_(value)
    after = [tensor.clone() for tensor in tensors]
    held.restore_where(torch.tensor(False))
    assert all(a.equal(b) or a.isnan().all() for a, b in zip(tensors, after, strict=True))
    held.restore_where(torch.tensor(True))
    assert all(a.equal(b) for a, b in zip(tensors, before, strict=True))
