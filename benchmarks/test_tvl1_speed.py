"""Time TV-L1 per call on pairs of 128 x 128 pixels; each case is checked first."""

from pathlib import Path

import numpy as np
import pytest
import torch
from budget import cost
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from mol_fast import tvl1
from mol_fast.tvl1 import tensors

PAIRS = Path(__file__).parents[1] / "tests" / "golden" / "tvl1.npz"


def batch(count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return `count` pairs, and their flow by OpenCV's Dual TV-L1."""
    with np.load(PAIRS, allow_pickle=False) as archive:
        chosen = np.arange(count) % len(archive["previous"])
        previous, next = (torch.from_numpy(archive[name][chosen]).to(device) for name in ("previous", "next"))
        return previous, next, torch.from_numpy(archive["cv2_tvl1"][chosen]).permute(0, 3, 1, 2)


def check(previous: Tensor, next: Tensor, expected: Tensor) -> None:
    result = tvl1.flow(previous, next)
    difference = float(torch.linalg.vector_norm(result.cpu() - expected, dim=1).mean())
    if difference > 0.03:
        pytest.fail(f"wrong flow, {difference:.3f} px from OpenCV's: nothing is timed")
    if not torch.equal(tvl1.flow(previous[-1:], next[-1:]), result[-1:]):
        pytest.fail("a pair alone has another flow than in its batch: nothing is timed")


@pytest.mark.parametrize("compiled", [pytest.param(False, id="eager"), pytest.param(True, id="compiled")])
@pytest.mark.parametrize("count", [1, 20])
@cost(6)
def test_tvl1(
    benchmark: BenchmarkFixture,
    count: int,
    compiled: bool,
    device: torch.device,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eager: PyTorch's operators. Compiled: by numba, on a CPU only."""
    if not compiled:
        monkeypatch.setattr(tvl1, "_refinement", lambda device: tensors.refine)
    elif device.type != "cpu":
        pytest.skip("a GPU runs PyTorch's operators")
    previous, next, expected = batch(count, device)
    check(previous, next, expected)
    benchmark.group = f"{count} pairs, {threads} threads"
    benchmark.pedantic(lambda: tvl1.flow(previous, next).cpu(), rounds=9, warmup_rounds=2)
    if benchmark.stats:  # none with --benchmark-disable
        benchmark.extra_info["ms_per_pair"] = benchmark.stats.stats.median / count * 1e3
