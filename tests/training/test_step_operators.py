"""How many operators and launches a training step of the whole model is, as a GPU runs it."""

import pytest
import torch
from harness.step_count import Operators, operators_of_a_step

from mol_fast import PRESETS

pytest.importorskip("triton")
pytestmark = pytest.mark.interpreter

from mol_fast.kernels import ccc, correlation, fcc  # noqa: E402

OPERATORS, LAUNCHES = 350, 28
"""Budgets of a whole step, the operators of PyTorch and the launches of this project's kernels."""
KERNELS = {
    "mol_fast::fcc_train": 2,
    "mol_fast::fcc_running": 2,
    "mol_fast::fcc_backward": 2,
    "mol_fast::ccc": 2,
    "mol_fast::ccc_backward": 2,
    "mol_fast::correlation": 1,
    "mol_fast::correlation_backward": 1,
}
SYNCHRONISING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique"}


@pytest.fixture(scope="module", params=["paper", "small"])
def counted(request: pytest.FixtureRequest) -> Operators:
    return operators_of_a_step(request.param)


def test_operators(counted: Operators) -> None:
    totals = counted.totals()
    assert all(number > 0 for number in totals.values()), totals
    assert sum(totals.values()) <= OPERATORS, totals


def test_launches(counted: Operators) -> None:
    """Those of the operators that are called, in the number that each of them is."""
    assert counted.kernels() == KERNELS
    shape, half = (448, 128, 16, 16), torch.bfloat16
    blocks = [*fcc.launches(shape, half, "cuda"), *ccc.launches(shape, PRESETS["paper"].neighbors, half, "cuda")]
    flow = correlation.launches((448, 256, 16, 16), half, "cuda", max_displacement=14)
    assert 2 * len(blocks) + len(flow) <= LAUNCHES


def test_nothing_waits_for_the_device(counted: Operators) -> None:
    found = {name for operators in counted.found.values() for name in operators}
    assert "convolution" in found
    assert not found & SYNCHRONISING


def test_convolutions_are_channels_last_and_take_multiples_of_eight(counted: Operators) -> None:
    """All but those that begin at the frames, or are of the last flow at full size."""
    assert len(counted.convolved) > 60
    assert not [found for found in counted.convolved if not found.channels_last]
    assert not [found for found in counted.convolved if found.channels % 8 and found.channels > 4]
