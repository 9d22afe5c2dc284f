"""The emulated arithmetic is that of a card, and the budgets of the kernels' tests report where it is not.

The kernels' own tests run on it, too: `emulated-float32` and `emulated-bfloat16` in those of every operator.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness.compare import run
from torch import Tensor

pytest.importorskip("triton")

from harness import faulty, kernel_ccc, kernel_correlation, kernel_fcc
from harness.emulation import Arithmetic, emulation, tf32x3, to_bfloat16, to_tf32
from harness.kernel_checks import double

from mol_fast import reference as ref
from tests.kernels import test_ccc, test_correlation, test_fcc

pytestmark = pytest.mark.emulated


def numbers() -> Tensor:
    """float32 numbers of all sizes and signs, special ones, and ties of a bfloat16."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (100_000,), generator=generator).int()
    bits[:10_000] = bits[:10_000] & ~0xFFFF | 0x8000
    return bits.view(torch.float32)


def test_rounding_is_that_of_pytorch() -> None:
    x = numbers()
    assert torch.equal(torch.from_numpy(to_bfloat16(x.numpy())).nan_to_num(7), x.bfloat16().float().nan_to_num(7))


def test_tf32_has_eleven_bits_and_ties_go_away_from_zero() -> None:
    ties = np.array([1 + 2.0**-11, -1 - 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 - 2.0**-23], dtype=np.float32)
    assert to_tf32(ties).tolist() == [1 + 2.0**-10, -1 - 2.0**-10, 1 + 2 * 2.0**-10, 1]
    x = np.linspace(1, 2, 10_000, dtype=np.float32)
    assert np.abs(to_tf32(x) - x).max() <= 2.0**-11
    assert np.isinf(to_tf32(np.array([np.inf, -np.inf], dtype=np.float32))).all()


def test_three_products_are_nearly_those_of_float32() -> None:
    """What is left out is low times low: two factors of 2^-11 for each product."""
    a, b = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert (np.abs(tf32x3(a, b) - exact) <= (2.0**-22 + 64 * 2.0**-24) * terms).all()
    a[0, 0] = np.inf
    assert np.isinf(tf32x3(a, b)[0]).all()


def test_bfloat16_is_read_and_written_bit_for_bit() -> None:
    x = numbers().bfloat16()[:4096]
    y = torch.zeros_like(x)
    faulty.copy[(4,)](x, y, 4096, FIRST=0, B=1024)
    assert torch.equal(y.nan_to_num(7), x.nan_to_num(7))


Result = tuple[dict[str, Tensor], dict[str, Tensor]]


def fcc() -> Result:
    """What the kernel gives for bfloat16 maps, and what is exact for them."""
    x = torch.randn((3, 2, 16, 16), generator=torch.Generator().manual_seed(0)).bfloat16()
    params = kernel_fcc.parameters(2, 16, 16, torch.bfloat16)
    exact = run(kernel_fcc.by_group(ref.fcc, 1), double(params), x.double(), x.double())
    return run(kernel_fcc.fused(1), params, x, x), exact


def ccc() -> Result:
    x = kernel_ccc.maps((2, 16, 8, 8, 3), torch.bfloat16, "cpu")
    params = kernel_ccc.parameters(16, 64, torch.bfloat16)
    exact = run(lambda p, x: ref.ccc_paper(p, x, 3), double(params), x.double(), x.double())
    return run(kernel_ccc.fused(3), params, x, x), exact


def correlation() -> Result:
    given = kernel_correlation.problem(1, 40, 9, 10, 4, 2, 0.1)(torch.bfloat16, "cpu")
    literal = kernel_correlation.literal(4, 2, 0.1)
    return given.run(), run(literal, double(given.params()), given.x.double(), given.d.double())


OPERATORS = [fcc, ccc, correlation]


def assert_no_bias(actual: Tensor, exact: Tensor) -> None:
    """Errors of independent roundings to nearest, e_i of x_i, have no part along x but by chance: e . x deviates by the
    root of the sum of (e_i x_i)^2, and hardly ever by four times that."""
    error = (actual.double() - exact) * exact
    assert abs(float(error.sum())) <= 4 * float(error.norm()), f"{float(error.sum()):.2e}, by chance {error.norm():.2e}"


@pytest.mark.parametrize("operator", OPERATORS)
def test_rounding_has_no_bias(operator: Callable[[], Result]) -> None:
    actual, exact = operator()
    for name in ("y", "x"):
        assert_no_bias(actual[name], exact[name])


class Cut(Arithmetic):
    """Rounds towards zero, as the interpreter does."""

    @staticmethod
    def round(values: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32)


class NarrowSum(Arithmetic):
    """Accumulates products in bfloat16."""

    @staticmethod
    def bfloat16(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((a.shape[0], b.shape[1]), dtype=np.float32)
        for i in range(a.shape[1]):
            total = to_bfloat16(total + a[:, i : i + 1] * b[i])
        return total


class OneProduct(Arithmetic):
    """Plain TF32."""

    @staticmethod
    def tf32x3(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return to_tf32(a) @ to_tf32(b)


class TwoProducts(Arithmetic):
    """Leaves out what b has beyond TF32."""

    @staticmethod
    def tf32x3(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return to_tf32(a) @ to_tf32(b) + to_tf32(a - to_tf32(a)) @ to_tf32(b)


def reference_test(operator: str, dtype: torch.dtype) -> None:
    """The operator's comparison with the reference, on one of its cases."""
    test: Any = {"fcc": test_fcc, "ccc": test_ccc, "correlation": test_correlation}[operator]
    case = {"fcc": (3, 2, 16, 16, 1), "ccc": (1, 130, 2, 10, 3), "correlation": (1, 40, 16, 16, 14, 2, 0.1)}[operator]
    test.test_is_the_reference("cpu", dtype, case, *([False] if operator == "fcc" else []))


@pytest.mark.parametrize("operator", OPERATORS)
def test_cutting_is_reported(operator: Callable[[], Result]) -> None:
    with emulation(Cut()), pytest.raises(AssertionError):
        test_rounding_has_no_bias(operator)


@pytest.mark.parametrize("operator", ["ccc", "correlation"])
def test_a_narrow_sum_is_reported(operator: str) -> None:
    with emulation(NarrowSum()), pytest.raises(AssertionError):
        reference_test(operator, torch.bfloat16)


@pytest.mark.parametrize("operator", ["fcc", "ccc", "correlation"])
@pytest.mark.parametrize("arithmetic", [OneProduct, TwoProducts])
def test_less_than_three_products_are_reported(arithmetic: type[Arithmetic], operator: str) -> None:
    with emulation(arithmetic()), pytest.raises(AssertionError):
        reference_test(operator, torch.float32)
