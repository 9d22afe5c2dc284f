"""The correlation of the flow head held to the reference."""

import pytest
import torch
from harness.compare import assert_runs_equal, assert_within_budget, run, seeded
from torch import Tensor
from torch.testing import assert_close

from mol_fast import functional
from mol_fast import reference as ref
from mol_fast.nn.flow_head import _inside

SHAPES = [(2, 3, 5, 7), (1, 4, 1, 6), (1, 2, 6, 1), (3, 1, 4, 4)]
WINDOWS = [(20, 2), (4, 2), (3, 1), (5, 2), (0, 1), (6, 3), (2, 5)]


@pytest.mark.parametrize(("reach", "stride"), WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_reference(shape: tuple[int, ...], reach: int, stride: int) -> None:
    side = 2 * (reach // stride) + 1
    a, b = seeded(*shape, dtype=torch.float64), seeded(*shape, seed=1, dtype=torch.float64)
    g = seeded(shape[0], side**2, *shape[2:], seed=99, dtype=torch.float64)
    exact = run(lambda p, x: ref.correlation(x, p["b"], reach, stride), {"b": b.clone().requires_grad_()}, a, g)
    assert exact["y"].shape == g.shape
    actual = run(lambda p, x: functional.correlation(x, p["b"], reach, stride), {"b": b.requires_grad_()}, a, g)
    for name, value in exact.items():
        assert_close(actual[name], value, rtol=1e-13, atol=1e-13, msg=name)


def test_leaky_relu_follows() -> None:
    a, b = seeded(2, 4, 3, 5), seeded(2, 4, 3, 5, seed=1)
    expected = torch.nn.functional.leaky_relu(functional.correlation(a, b, 4, 1), 0.1)
    assert_close(functional.correlation(a, b, 4, 1, negative_slope=0.1), expected)


def test_the_flow_head_keeps_all_that_is_not_zero() -> None:
    maps = ref.correlation(torch.rand(1, 2, 16, 16) + 1, torch.rand(1, 2, 16, 16) + 1)
    kept = _inside(maps)
    assert kept.shape[1] == 225
    assert torch.equal(kept, maps[:, maps[0].flatten(1).any(dim=1)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision(dtype: torch.dtype) -> None:
    a, b = (seeded(2, 48, 6, 5, seed=seed, dtype=dtype) for seed in (0, 1))
    g = seeded(2, 121, 6, 5, seed=99, dtype=dtype)

    def runs(function, dtype: torch.dtype) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
        params = {"b": b.to(dtype, copy=True).requires_grad_()}
        return run(lambda p, x: function(x, p["b"], 10, 2), params, a.to(dtype), g.to(dtype))

    exact = runs(ref.correlation, torch.float64)
    assert_within_budget(runs(functional.correlation, dtype), runs(ref.correlation, dtype), exact, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_integers_are_exact(dtype: torch.dtype) -> None:
    """Whole numbers and a power of two of channels: exact in every dtype."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-3, 4, (2, 8, 5, 6), generator=generator).to(dtype) for _ in range(2))
    assert torch.equal(functional.correlation(a, b, 4, 2).double(), ref.correlation(a.double(), b.double(), 4, 2))


def test_autocast_and_layouts() -> None:
    a, b = seeded(2, 8, 5, 6), seeded(2, 8, 5, 6, seed=1)
    expected = functional.correlation(a, b, 4, 2)
    last = torch.channels_last
    assert_close(functional.correlation(a.contiguous(memory_format=last), b.mT.contiguous().mT, 4, 2), expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = functional.correlation(a, b, 4, 2)
    assert torch.equal(y, functional.correlation(a.bfloat16(), b.bfloat16(), 4, 2))


def test_expanded_gradient() -> None:
    a, b = (seeded(1, 4, 3, 5, seed=seed, dtype=torch.float64) for seed in (0, 1))
    runs = [
        run(lambda p, x: functional.correlation(x, p["b"], 2, 1), {"b": b.clone().requires_grad_()}, a, g)
        for g in (torch.ones(1, 25, 3, 5), torch.ones(()).expand(1, 25, 3, 5))
    ]
    assert_runs_equal(runs[1], runs[0], 1e-14)


def test_no_maps() -> None:
    a = torch.zeros(0, 4, 3, 5, requires_grad=True)
    y = functional.correlation(a, a)
    assert y.shape == (0, 441, 3, 5)
    y.sum().backward()


def test_gradcheck() -> None:
    a, b = (seeded(2, 3, 3, 4, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: functional.correlation(a, b, 4, 2), (a, b), fast_mode=True)


A = seeded(1, 4, 3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((A[0], A), r"a must have 4 dimensions"),
        ((A, A.int()), r"b must be floating point"),
        ((A, A[:, :2]), r"b must be like a"),
        ((A, A.double()), r"b must be like a .*float64"),
        ((A, A.to("meta")), r"b must be like a .*meta"),
        ((A, A, 4, 0), r"stride must be positive"),
        ((A, A, -1), r"max_displacement at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.correlation(*arguments)  # type: ignore[arg-type]


def test_backends_are_named() -> None:
    with pytest.raises(ValueError, match="backend must be one of"):
        functional.correlation(A, A, backend="cudnn")
    with pytest.raises(RuntimeError, match='backend="triton"'):
        functional.correlation(A, A, backend="triton")
