"""Counts the operators of a whole training step, phase by phase, as a GPU runs it, on any machine.

    TRITON_INTERPRET=1 python tests/harness/step_count.py paper

Tensors are fake: they have shapes and no values, and nothing is computed. They say that they are on the CPU, so the
choices that depend on the device are made here as on a GPU. Views, and tensors that are made without values, start
nothing on a GPU and are not counted.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from lightning_fabric import Fabric
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mol_fast import MOL, PRESETS, JointLoss
from mol_fast.nn import layout
from mol_fast.training.step import PendingRecord, TrainingStep

PHASES = ("hold", "forward", "losses", "backward", "clip", "check", "update", "restore", "record")
NOTHING = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::promote_types", "prim::", "profiler::")
"""What an operator's name starts with that starts nothing on a device."""


class Convolution(NamedTuple):
    """The maps that a convolution takes, also those that it took where its gradients are computed."""

    phase: str
    shape: tuple[int, ...]
    channels_last: bool
    channels: int


class Operators(TorchDispatchMode):
    """Operators by phase: those of PyTorch without their namespace, all others with it."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.found: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
        self.convolved: list[Convolution] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        if self.phase and not _is_view(function) and not name.startswith(NOTHING):
            self.found[self.phase][name.removeprefix("aten::")] += 1
        if name in ("aten::convolution", "aten::convolution_backward"):
            x = args[0 if name == "aten::convolution" else 1]
            self.convolved.append(Convolution(self.phase, tuple(x.shape), _is_channels_last(x), x.shape[1]))
        return function(*args, **(kwargs or {}))

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        self.phase = phase
        try:
            yield
        finally:
            self.phase = ""

    def totals(self) -> dict[str, int]:
        """Operators of PyTorch of each phase."""
        return {
            phase: sum(number for name, number in found.items() if "::" not in name)
            for phase, found in self.found.items()
        }

    def kernels(self) -> Counter[str]:
        """Calls of the operators of this project, each of which is some launches."""
        return Counter({name: n for found in self.found.values() for name, n in found.items() if "::" in name})


def _is_view(function: Any) -> bool:
    returns = function._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _is_channels_last(x: torch.Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.is_contiguous(memory_format=formats[x.dim()])


def operators_of_a_step(preset: str, batch: int = 2) -> Operators:
    """Those of the second step of `preset` in bfloat16: the first one also makes the optimiser's state."""
    config = PRESETS[preset]
    pairs = config.frames - 1
    counted = Operators()

    def phase(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with counted.during(name):
                return method(*args, **kwargs)

        return run

    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    model = MOL(config=config, backend="triton").train()
    layout.channels_last(model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    take = TrainingStep(fabric, model, *fabric.setup(model, optimizer), JointLoss(), 5.0)
    with patch.object(layout, "on_gpu", lambda x: True), FakeTensorMode(allow_non_fake_inputs=True):
        data = {
            "frames": torch.empty(batch, 1, config.frames, 128, 128),
            "label": torch.empty(batch, dtype=torch.long),
            "flow": torch.empty(batch, 2, pairs, 128, 128),
            "landmarks": torch.empty(batch, config.frames, 68, 2),
        }
        take(data, 1e-3)
        for name in PHASES[:-1]:
            setattr(take, name, phase(name, getattr(take, name)))
        with counted:
            terms, norm = take(data, 1e-3)
            with counted.during("record"):
                PendingRecord(1, terms, 1e-3, norm)
    return counted


if __name__ == "__main__":
    counted = operators_of_a_step(sys.argv[1])
    for phase, found in counted.found.items():
        print(f"{phase:9} {counted.totals()[phase]:4}  {dict(found.most_common(40))}")
    print(f"total     {sum(counted.totals().values()):4}")
