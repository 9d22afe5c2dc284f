"""The fused correlation held to the reference: in Triton's interpreter, and natively where there is a GPU."""

from typing import Any

import pytest
import torch
from harness.compare import assert_runs_equal, assert_within_budget, run
from harness.kernel_checks import RUNS, cpu, each_run, first_runs

pytest.importorskip("triton")

from harness.kernel_correlation import fused, leaves, literal, maps
from mol_fast.kernels import correlation as kernels

# N, C, H, W, max_displacement, stride, slope: several tiles, residues without rows, windows within and beyond the map.
CASES = [
    (1, 6, 5, 12, 20, 2, 1.0),
    (2, 3, 7, 4, 5, 2, 0.1),
    (1, 40, 16, 16, 20, 2, 0.1),
    (1, 40, 16, 16, 14, 2, 0.1),
    (1, 2, 9, 10, 2, 1, 1.0),
    (3, 2, 1, 1, 3, 2, 0.1),
    (1, 2, 8, 7, 6, 3, 0.1),
    (1, 2, 6, 33, 3, 2, 0.0),
    (1, 130, 2, 3, 0, 1, 0.1),
]


@pytest.mark.parametrize("case", CASES)
@each_run
def test_is_the_reference(device: str, dtype: torch.dtype, case: tuple[Any, ...]) -> None:
    a, b, g = maps(case, dtype, device)
    actual = cpu(run(fused(*case[4:]), leaves(b), a, g))
    exact = run(literal(*case[4:]), leaves(b.cpu(), torch.float64), a.cpu().double(), g.cpu().double())
    if dtype == torch.float64:
        assert_runs_equal(actual, exact, 1e-13)
    else:
        assert_within_budget(actual, cpu(run(literal(*case[4:]), leaves(b), a, g)), exact, dtype)


@each_run
def test_integers_are_exact(device: str, dtype: torch.dtype) -> None:
    """Whole numbers and a power of two of channels: exact in every dtype."""
    generator = torch.Generator().manual_seed(0)
    a, b, g = (
        torch.randint(-2, 3, shape, generator=generator).to(device, dtype)
        for shape in ((2, 8, 5, 6), (2, 8, 5, 6), (2, 25, 5, 6))
    )
    actual = run(fused(4, 2), leaves(b), a, g)
    exact = run(literal(4, 2, 1.0), leaves(b.cpu(), torch.float64), a.cpu().double(), g.cpu().double())
    for name, value in exact.items():
        assert torch.equal(actual[name].cpu().double(), value), name


@first_runs
def test_opcheck(device: str, dtype: torch.dtype) -> None:
    a, b, g = maps((1, 2, 3, 4, 2, 1, 0.1), dtype, device)
    out = kernels.correlation(a, b, 2, 1, 0.1)
    torch.library.opcheck(kernels.correlation_forward, (a.requires_grad_(), b.requires_grad_(), 2, 1, 0.1))
    torch.library.opcheck(kernels.correlation_backward, (g, a.detach(), b.detach(), out, 2, 1, 0.1))
    torch.library.opcheck(kernels.correlation_backward, (g, a.detach(), b.detach(), None, 2, 1, 1.0))


@pytest.mark.parametrize(("device", "dtype"), RUNS[-1:])
def test_more_than_int32_elements(device: str, dtype: torch.dtype) -> None:
    a = torch.randn(1200, 4, 64, 64, dtype=dtype, device=device)
    out = kernels.correlation(a, a)
    assert out.numel() > 2**31
    assert torch.equal(out[-2:], kernels.correlation(a[-2:], a[-2:]))


A = torch.zeros(1, 4, 3, 5)


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((A[0], A), r"a must be \(N, C, H, W\)"),
        ((A, A.int()), r"b must be float32"),
        ((A, A[:, :2]), r"b must be like a"),
        ((A, A.double()), r"b must be like a .*float64"),
        ((torch.zeros(1, 1, 65, 1),) * 2, r"a must have sides from 1 to 64"),
        ((A, A, 4, 0), r"stride must be positive"),
        ((A, A, -1), r"max_displacement at least 0"),
        ((A, A, 4, 2, -0.1), r"negative_slope must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernels.correlation(*arguments)
