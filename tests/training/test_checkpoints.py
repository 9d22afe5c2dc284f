"""Checkpoints that do not fit: of another version of the model, or hostile. They are ignored, never half loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast.training.checkpoints import Checkpoints
from mol_fast.utils.sealed import pack, unpack

Tensors = dict[str, Tensor]


def training(folder: Path, environment: str = "2") -> tuple[Checkpoints, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return Checkpoints(folder, 1, "mine", {"torch": environment}), model, torch.optim.AdamW(model.parameters())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The checkpoint of a training after one step."""
    checkpoints, model, optimizer = training(tmp_path)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoints.save(1, model, optimizer)
    (path,) = tmp_path.iterdir()
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("model.bias"),
        lambda t: t.update({"model.more": torch.ones(2)}),
        lambda t: t.update({"model.weight": torch.ones(2, 4)}),
        lambda t: t.update({"model.weight": t["model.weight"].double()}),
        lambda t: t.pop("optimizer.0.exp_avg"),
        lambda t: t.pop("optimizer.1.step"),
        lambda t: t.update({"optimizer.1.exp_avg": torch.ones(3)}),
        lambda t: t.update({"optimizer.2.exp_avg": torch.ones(3)}),
        lambda t: t.update({"optimizer.one": torch.ones(3)}),
        lambda t: t.pop("step"),
        lambda t: t.update(step=torch.tensor([1, 1])),
        lambda t: t.update(step=torch.tensor(1.0)),
        lambda t: t.update(step=torch.tensor(0)),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_ignored(
    saved: Path, change: Callable[[Tensors], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """One of another version ended with a traceback."""
    tensors, metadata = unpack(saved)
    assert training(saved.parent)[0].load(*training(saved.parent)[1:]) == 1
    change(tensors)
    saved.write_bytes(pack(tensors, metadata))
    checkpoints, model, optimizer = training(saved.parent)
    assert checkpoints.load(model, optimizer) == 0
    assert capsys.readouterr().out == f"{saved} is damaged, or of another run or version: ignored\n"
    assert_close(model.state_dict(), training(saved.parent)[1].state_dict(), rtol=0, atol=0)
    assert not optimizer.state


def test_a_resume_elsewhere_is_told_in_one_line(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints, *state = training(saved.parent, "3\n\x1b[31m")
    assert checkpoints.load(*state) == 1
    error = capsys.readouterr().err
    assert r"(torch 2, now 3\n\x1b[31m)" in error
    assert error.count("\n") == 1
