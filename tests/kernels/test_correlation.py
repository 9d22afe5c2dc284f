"""The fused correlation held to the reference: in Triton's interpreter, and natively where there is a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.compare import assert_runs_equal, assert_within_budget, run, seeded
from harness.kernel_checks import (
    LAYOUTS,
    RUNS,
    count_launches,
    cpu,
    decide,
    each_run,
    first_runs,
    on_gpu,
    poison,
    replayed,
    run_strided,
)
from torch import Tensor

pytest.importorskip("triton")

from mol_fast.kernels import common, resources
from mol_fast.kernels import correlation as kernels

from mol_fast import reference as ref

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


def fused(*window: Any) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    return lambda params, x: kernels.correlation(x, params["b"], *window)


def literal(reach: int, stride: int, slope: float) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    return lambda params, x: F.leaky_relu(ref.correlation(x, params["b"], reach, stride), slope)


def maps(case: tuple[Any, ...], dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and a gradient of the output."""
    n, c, h, w, reach, stride, _ = case
    a, b = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 1))
    return a, b, seeded(n, (2 * (reach // stride) + 1) ** 2, h, w, seed=99, dtype=dtype).to(device)


def leaves(b: Tensor, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    return {"b": b.detach().to(dtype or b.dtype, copy=True).requires_grad_()}


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
def test_strides_do_not_matter(device: str, dtype: torch.dtype) -> None:
    """Channels last, transposed, sliced and expanded maps and gradients give bit for bit what contiguous ones give."""
    case = (2, 3, 5, 6, 4, 2, 0.1)
    a, b, g = (value[:1].expand(2, -1, -1, -1) for value in maps(case, dtype, device))
    expected = run_strided(fused(4, 2, 0.1), leaves(b.contiguous()), a.contiguous(), g.contiguous())
    for layout in LAYOUTS:
        strided = {"b": layout(b).detach().requires_grad_()}
        actual = run_strided(fused(4, 2, 0.1), strided, layout(a), layout(g))
        for name, value in expected.items():
            assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("case", [CASES[0], CASES[6]])
@first_runs
def test_every_output_is_written(
    device: str, dtype: torch.dtype, case: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, g = maps(case, dtype, device)
    expected = run(fused(*case[4:]), leaves(b), a, g)
    poison(monkeypatch)
    actual = run(fused(*case[4:]), leaves(b), a, g)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@first_runs
def test_int64_offsets_change_nothing(device: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, g = maps(CASES[1], dtype, device)
    expected = run(fused(*CASES[1][4:]), leaves(b), a, g)
    decide(monkeypatch, common, "INT32_LIMIT", 1)
    actual = run(fused(*CASES[1][4:]), leaves(b), a, g)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@each_run
def test_no_maps(device: str, dtype: torch.dtype) -> None:
    a = torch.zeros(0, 4, 3, 5, dtype=dtype, device=device, requires_grad=True)
    y = kernels.correlation(a, a)
    assert y.shape == (0, 441, 3, 5)
    y.sum().backward()
    assert a.grad is not None


@pytest.mark.interpreter
def test_gradcheck() -> None:
    a, b = (seeded(1, 2, 3, 4, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: kernels.correlation(a, b, 4, 2, 0.1), (a, b), fast_mode=True)


@first_runs
def test_opcheck(device: str, dtype: torch.dtype) -> None:
    a, b, g = maps((1, 2, 3, 4, 2, 1, 0.1), dtype, device)
    out = kernels.correlation(a, b, 2, 1, 0.1)
    torch.library.opcheck(kernels.correlation_forward, (a.requires_grad_(), b.requires_grad_(), 2, 1, 0.1))
    torch.library.opcheck(kernels.correlation_backward, (g, a.detach(), b.detach(), out, 2, 1, 0.1))
    torch.library.opcheck(kernels.correlation_backward, (g, a.detach(), b.detach(), None, 2, 1, 1.0))


@first_runs
def test_compiles_without_a_graph_break(device: str, dtype: torch.dtype) -> None:
    a, b, g = maps((1, 2, 3, 4, 2, 1, 0.1), dtype, device)
    expected = run(fused(2, 1, 0.1), leaves(b), a, g)
    actual = run(torch.compile(fused(2, 1, 0.1), fullgraph=True, backend="aot_eager"), leaves(b), a, g)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@first_runs
def test_double_backward_raises(device: str, dtype: torch.dtype) -> None:
    a, b, _ = maps((1, 2, 3, 4, 2, 1, 1.0), dtype, device)
    a.requires_grad_()
    (da,) = torch.autograd.grad(kernels.correlation(a, b, 2, 1).square().sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="correlation_backward"):
        da.sum().backward()


@first_runs
def test_launches(device: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = count_launches(monkeypatch)
    a, b, g = maps((1, 2, 3, 4, 2, 1, 0.1), dtype, device)
    run(fused(2, 1, 0.1), leaves(b), a, g)
    assert launched == ["forward", "backward"]


@on_gpu
def test_runs_are_identical(device: str, dtype: torch.dtype) -> None:
    """Many programs at once, twice: a race would show."""
    a, b, g = maps((224, 256, 16, 16, 20, 2, 0.1), dtype, device)
    first, second = (run(fused(20, 2, 0.1), leaves(b), a, g) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@on_gpu
def test_cuda_graph(device: str, dtype: torch.dtype) -> None:
    a, b, _ = maps((7, 32, 16, 16, 20, 2, 0.1), dtype, device)
    expected = kernels.correlation(b, b, negative_slope=0.1)
    assert torch.equal(replayed(lambda t: kernels.correlation(t, b, negative_slope=0.1), a, b), expected)


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


@pytest.mark.aot
def test_a_tensor_on_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="a must be on a GPU"):
        kernels.correlation(A, A)


@pytest.mark.aot
def test_only_reachable_pairs_are_counted() -> None:
    """On 16 x 16 a quarter of all pairs lies in rows and columns of one residue; those are what the backward reads."""
    assert kernels.reached((1, 1, 16, 16), 10, 2) == 16**4 // 4
    assert kernels.pairs((1, 1, 16, 16), 2) == 16**4 // 2


@pytest.mark.aot
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 12)])
@pytest.mark.parametrize("wide", [False, True])
def test_extreme_sizes_compile(shape: tuple[int, int, int, int], wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and strides of 1 become constants in a real launch, and large maps have int64 offsets."""
    if wide:
        decide(monkeypatch, common, "INT32_LIMIT", 1)
    for launch in kernels.launches(shape, torch.bfloat16, "cuda", stride=1):
        resources.compile_launch(launch, resources.TARGETS["sm_90"])
