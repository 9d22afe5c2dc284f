"""What an F5C block costs the host: operators, launches and Python calls of a pass, against budgets."""

import collections
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import driver

from tests.kernels.test_prepared import Device, device

pytest.importorskip("triton")

from mol_fast import F5C

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import host_overhead

__all__ = ["device"]

pytestmark = pytest.mark.aot

FREE = ("view", "split", "unbind", "select", "slice", "expand", "detach", "empty", "alias", "t", "as_strided")
"""ATen operators that start nothing on a device."""


class Operators(TorchDispatchMode):
    """Counts the operators that do something on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, name, _ = str(operator).split(".")
        if namespace == "aten" and name not in FREE:
            self.found[name] += 1
        return operator(*args, **(kwargs or {}))


def block(training: bool, groups: int = 7) -> tuple[F5C, Tensor, Tensor]:
    """A block with float32 parameters, float32 maps of every group twice, and a gradient in bfloat16."""
    layer = F5C(16, 4, backend="triton").train(training)
    x = torch.randn(2 * groups, 16, 4, 4, requires_grad=training)
    return layer, x, torch.randn(x.shape, dtype=torch.bfloat16)


def step(layer: F5C, x: Tensor, gradient: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, 7)
    y.backward(gradient)


def forget(layer: F5C, x: Tensor) -> None:
    x.grad = None
    layer.zero_grad()


def test_operators_and_launches_of_a_training_pass(device: Device) -> None:
    """Casts of x and of its gradient: at most 10 operators of PyTorch, 6 launches forward and 10 backward."""
    layer, x, gradient = block(training=True)
    with Operators() as operators:
        step(layer, x, gradient)
    assert sum(operators.found.values()) <= 10, operators.found
    names = [name for name, _, _ in device.launches]
    last = names.index("ccc_edges_kernel") + 1
    assert last <= 6, names
    assert len(names) - last <= 10, names


def test_operators_and_launches_of_an_evaluation(device: Device) -> None:
    """Casts of x, and the statistics of both halves joined."""
    layer, x, _ = block(training=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer(x)
        device.launches.clear()
        with Operators() as operators:
            layer(x)
    assert sum(operators.found.values()) <= 3, operators.found
    assert len(device.launches) <= 4


def test_python_calls_of_a_training_pass(device: Device) -> None:
    """At most 600 of Python and built-in functions, once launches are prepared, those of `Device` not among them."""
    driver.active.launched = None
    layer, x, gradient = block(training=True)
    for _ in range(2):
        forget(layer, x)
        step(layer, x, gradient)
    calls = host_overhead.count(lambda: forget(layer, x), lambda: step(layer, x, gradient))
    assert calls <= 600


def test_python_calls_of_an_evaluation(device: Device) -> None:
    """At most 250, once launches are prepared: the block reads its parameters without calling its parts."""
    driver.active.launched = None
    layer, x, _ = block(training=False)

    def evaluate() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            layer(x)

    for _ in range(2):
        evaluate()
    assert host_overhead.count(lambda: None, evaluate) <= 250
