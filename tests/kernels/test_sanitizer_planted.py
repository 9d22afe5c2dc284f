"""The sanitizer reports what is planted in the project's own kernels: a missing barrier, mask or offset."""

import importlib
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from harness import planting
from harness.sanitizer import Sanitizer
from harness.shadow import Kind
from mol_fast.kernels import ccc_backward, prepared

from mol_fast import CCC, FCC
from tests.kernels.test_sanitizer import SPARE, correlate, of, step, update_running

pytestmark = pytest.mark.sanitizer

MODULES = ("fcc_forward", "fcc_running", "fcc_backward", "ccc_parameters", "ccc_forward", "ccc_backward", "correlation")
FUNCTIONS = {
    name: value
    for module in map(importlib.import_module, (f"mol_fast.kernels.{name}" for name in MODULES))
    for name, value in vars(module).items()
    if hasattr(value, "arg_names") and value.fn.__module__ == module.__name__
}
"""The kernels, and the functions that they call, by name."""

BARRIERS = [(name, i) for name, function in FUNCTIONS.items() for i in range(planting.barriers(function))]
STORES, MASKS = (
    [n for n, function in FUNCTIONS.items() if planting.stores(function, masked)] for masked in (False, True)
)


def launch_all(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launch every kernel of the operator that `function` belongs to, at sizes that fill no tile."""
    torch.manual_seed(0)
    operator = function.fn.__module__.rsplit(".", 1)[1]
    if operator == "fcc_running":
        update_running()
    elif operator.startswith("fcc"):
        step(of(FCC(2, (5, 3), backend="triton"), torch.float32), torch.randn(3, 2, 5, 3))
    elif operator.startswith("ccc"):
        for many, size in ((1, (4, 4)), (10**6, (3, 4))):  # one launch takes rows of whole tiles
            monkeypatch.setattr(ccc_backward, "MANY", many)
            prepared.plan.cache_clear()
            layer = of(CCC(6, size, 2, backend="triton"), torch.float32)
            step(layer, torch.randn(1, 6, *size))
            with torch.no_grad():
                layer(torch.randn(1, 6, *size))
    else:
        correlate(*torch.randn(2, 1, 3, 5, 6), 4, 2, 0.1)


def faults(function: Any, change: planting.Change, monkeypatch: pytest.MonkeyPatch) -> set[Kind]:
    """The kinds of faults that are reported when `function` is changed."""
    planting.plant(monkeypatch, function, change)
    with Sanitizer(SPARE) as sanitizer:
        launch_all(function, monkeypatch)
    return sanitizer.kinds


@pytest.mark.parametrize(("name", "number"), BARRIERS)
def test_a_barrier_less_is_reported(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so every barrier is needed."""
    found = faults(FUNCTIONS[name], planting.without_barrier(number), monkeypatch)
    assert found
    assert found <= {Kind.UNORDERED_READ, Kind.UNORDERED_WRITE, Kind.UNORDERED_WRITES}


@pytest.mark.parametrize("name", STORES)
def test_an_offset_of_one_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last store: it leaves an element unwritten, and hits that of a neighbour, or none."""
    found = faults(FUNCTIONS[name], planting.one_further, monkeypatch)
    assert found & {Kind.OUT_OF_BOUNDS, Kind.WRITE_RACE, Kind.UNINITIALISED}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_less_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = faults(FUNCTIONS[name], planting.without_mask, monkeypatch)
    assert found & {Kind.OUT_OF_BOUNDS, Kind.WRITE_RACE, Kind.ONE_ADDRESS}
