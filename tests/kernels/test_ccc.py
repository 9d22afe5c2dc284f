"""The fused CCC held to the reference: in Triton's interpreter, and natively where there is a GPU."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.compare import Params, assert_runs_equal, assert_within_budget, neighbour_gap, plain_ccc, run, seeded
from harness.kernel_checks import (
    NATIVE,
    assert_same,
    count_launches,
    cpu,
    decide,
    double,
    each_run,
    first_runs,
    poison,
    run_strided,
)
from torch import Tensor
from torch.testing import assert_close

pytest.importorskip("triton")

from harness.kernel_ccc import fused, maps, parameters, problem, values
from mol_fast.kernels import ccc as kernels
from mol_fast.kernels import ccc_backward, ccc_forward, common, tiles

from mol_fast import reference as ref
from mol_fast.ops import ccc as batched_ccc

# N, C, H, W, k: sizes that fill no tile, that fill all, and a part of the last; more tiles of one kind than of another;
# one and all neighbours, ranks of half a byte and of two bytes, one node.
CASES = [
    (3, 6, 5, 12, 2),
    (1, 6, 5, 12, 1),
    (1, 5, 3, 3, 5),
    (2, 40, 9, 5, 4),
    (1, 130, 2, 10, 3),
    (2, 16, 8, 8, 3),
    (1, 40, 4, 24, 15),
    (1, 20, 3, 3, 17),
    (1, 1, 1, 1, 1),
]


def unfused(k: int) -> Callable[[Params, Tensor], Tensor]:
    """The batched PyTorch path."""

    def layer(params: Params, x: Tensor) -> Tensor:
        node, node_bias, edge, edge_bias, mix, mix_bias = values(params)
        return batched_ccc.ccc_paper(x, node, node_bias, edge, edge_bias, mix, mix_bias, k)

    return layer


def index(x: Tensor, k: int) -> Tensor:
    """The neighbours `(N, k, C)` that the kernel selects."""
    found = torch.empty((x.shape[0], k, x.shape[1]), dtype=torch.int16, device=x.device)
    ccc_forward.neighbours_launch(x, found, common.target()).run(x.device)
    return found.long().cpu()


@pytest.mark.parametrize("case", CASES)
@each_run
def test_is_the_reference(device: str, dtype: torch.dtype, case: tuple[int, ...]) -> None:
    """Twice the error of PyTorch's own layers in the same dtype, and one rounding."""
    _, c, h, w, k = case
    x, d = maps(case, dtype, device), seeded(*case[:4], seed=99, dtype=dtype).to(device)
    params = parameters(c, h * w, dtype, device)
    exact = run(lambda p, x: ref.ccc_paper(p, x, k), double(params), x.cpu().double(), d.cpu().double())
    actual = cpu(run(fused(k), params, x, d))
    if dtype == torch.float64:
        assert_runs_equal(actual, exact, 1e-13)
    else:
        plain = run(lambda p, x: plain_ccc(p, x, k, "paper"), parameters(c, h * w, dtype, device), x, d)
        assert_within_budget(actual, cpu(plain), exact, dtype)


@pytest.mark.interpreter
@pytest.mark.parametrize("case", CASES)
def test_half_precision_in_the_interpreter(case: tuple[int, ...]) -> None:
    """float16 has tiles of its own, which the interpreter can run (bfloat16 it cannot)."""
    test_is_the_reference("cpu", torch.float16, case)


@pytest.mark.parametrize(("c", "h", "w", "k"), [(6, 5, 12, 6), (130, 3, 7, 5), (33, 4, 4, 33)])
@each_run
def test_neighbours_are_the_most_similar(device: str, dtype: torch.dtype, c: int, h: int, w: int, k: int) -> None:
    """By similarity, not by index: the r-th is as similar as the r-th largest, to float32 accuracy in any dtype."""
    x = seeded(2, c, h, w, dtype=dtype)
    unit = F.normalize(x.double().flatten(2), dim=2)
    similarity = unit @ unit.mT
    found = index(x.to(device), k).mT
    assert all(len(set(row)) == k for row in found.flatten(0, 1).tolist())
    assert torch.equal(found[:, :, 0], torch.arange(c).expand(2, c))
    chosen = similarity.gather(2, found)
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert_close(chosen, similarity.topk(k, dim=2).values, rtol=0, atol=tolerance)


@each_run
def test_ties_go_to_the_lowest_index(device: str, dtype: torch.dtype) -> None:
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1]], dtype=dtype, device=device)
    x = signs[[0, 1, 0, 1, 0]].view(1, 5, 2, 2)
    expected = [[0, 2, 4, 1], [1, 3, 0, 2], [0, 2, 4, 1], [1, 3, 0, 2], [0, 2, 4, 1]]
    assert index(x, 4)[0].T.tolist() == expected


@each_run
def test_zero_channels_have_similarity_zero(device: str, dtype: torch.dtype) -> None:
    x = seeded(1, 4, 3, 3, dtype=dtype).to(device)
    x[0, 2] = 0
    assert index(x, 4)[0, :, 2].tolist() == [0, 1, 2, 3]
    assert torch.isfinite(fused(2)(parameters(4, 9, dtype, device), x)).all()


@each_run
def test_nan_is_the_largest_similarity(device: str, dtype: torch.dtype) -> None:
    x, params = seeded(2, 6, 5, 12, dtype=dtype).to(device), parameters(6, 60, dtype, device)
    clean = fused(2)(params, x)
    x[0, 4, 2, 3] = torch.nan
    assert (index(x, 2)[0, 0, [0, 1, 2, 3, 5]] == 4).all()
    y = fused(2)(params, x)
    assert torch.equal(y.isnan(), unfused(2)(params, x).isnan())
    assert y[0].isnan().all()
    assert torch.equal(y[1], clean[1])


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
@first_runs
def test_infinity_is_as_in_pytorch(device: str, dtype: torch.dtype, value: float) -> None:
    """With all channels as neighbours, so that the choice is the same."""
    x, params = seeded(1, 6, 3, 4, dtype=dtype).to(device), parameters(6, 12, dtype, device)
    x[0, 4, 2, 3] = value
    assert_close(fused(6)(params, x), unfused(6)(params, x), equal_nan=True)


@first_runs
def test_expanded_gradient(device: str, dtype: torch.dtype) -> None:
    """Strides of 0 throughout, as of `y.sum().backward()`."""
    x = seeded(3, 6, 5, 12, dtype=dtype).to(device)
    one = torch.ones((), dtype=dtype, device=device).expand(3, 6, 5, 12)
    expected = run(fused(2), parameters(6, 60, dtype, device), x, one.contiguous())
    assert_same(run_strided(fused(2), parameters(6, 60, dtype, device), x, one), expected)


@pytest.fixture(params=[1, 128], ids=["one-launch", "two-launches"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of maps from which on one launch makes the gradients of the maps."""
    decide(monkeypatch, ccc_backward, "MANY", request.param)
    return int(request.param)


@pytest.mark.parametrize("case", [(2, 6, 4, 12, 2), (2, 40, 8, 8, 3), (1, 20, 4, 4, 17)])
@first_runs
def test_one_launch_or_two(
    device: str, dtype: torch.dtype, case: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = problem(*case)(dtype, device).run()
    decide(monkeypatch, ccc_backward, "MANY", 1)
    assert_runs_equal(problem(*case)(dtype, device).run(), expected, 1e-6)


OTHER_TILES = [
    {"ccc_neighbours_kernel": {"BI": 16, "BD": 32}, "ccc_edges_kernel": {"BD": 16, "TURNS": 2, "BK": 64}},
    {"ccc_edges_kernel": {"BD": 16, "TURNS": 4, "BK": 16}},
    {name: {"BI": 64, "BR": 1} for name in ("ccc_edge_gradient_kernel", "ccc_map_gradient_kernel")},
    {name: {"BI": 8, "BR": 16} for name in ("ccc_edge_gradient_kernel", "ccc_map_gradient_kernel")},
    {"ccc_map_gradient_kernel": {"BD": 64, "BX": 32}, "ccc_parameter_gradient_kernel": {"BA": 32, "BB": 16, "BR": 64}},
]
"""Fewer and more turns, ranks and channels at once than the pinned ones, sides that do not divide the sizes."""


@cache
def pinned(case: tuple[int, ...], dtype: torch.dtype, device: str, many: int) -> dict[str, Tensor]:
    """What the pinned tiles give, with launches as `many` says."""
    return problem(*case)(dtype, device).run()


@pytest.mark.parametrize("changes", OTHER_TILES)
@pytest.mark.parametrize("case", [(2, 40, 6, 8, 3), (1, 20, 4, 4, 17)])
@first_runs
def test_tiles_do_not_matter(
    device: str, dtype: torch.dtype, case: tuple[int, ...], changes: dict[str, dict[str, int]], many: int
) -> None:
    """Up to the order of the sums."""
    expected = pinned(case, dtype, device, many)
    with tiles.override(changes):
        assert_runs_equal(problem(*case)(dtype, device).run(), expected, 1e-6)


@first_runs
def test_every_output_is_written(device: str, dtype: torch.dtype, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = problem(2, 6, 4, 12, 2)(dtype, device).run()
    poison(monkeypatch)
    assert_same(problem(2, 6, 4, 12, 2)(dtype, device).run(), expected)


def untied(x: Tensor, params: Params) -> bool:
    """Whether the two neighbours of every channel, and their candidates for the max, are apart."""
    q = F.linear(x.flatten(2), params["edge.weight"])
    similarity = F.normalize(x.flatten(2), dim=2) @ F.normalize(x.flatten(2), dim=2).mT
    first, second = (q.gather(1, i[:, :, None].expand_as(q)) for i in similarity.topk(2, dim=2).indices.unbind(2))
    return neighbour_gap(x, 2, "paper") > 1e-3 and bool((first != second).all())


@first_runs
def test_integers_are_exact(device: str, dtype: torch.dtype) -> None:
    """Whole numbers without a tie in the max: outputs and gradients are exact."""
    generator = torch.Generator().manual_seed(0)

    def whole(shape: tuple[int, ...]) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator).double()

    params = {name: whole(value.shape) for name, value in parameters(6, 12, dtype).items()}
    x = next(x for x in (whole((2, 6, 3, 4)) for _ in range(500)) if untied(x, params))
    d = whole((2, 6, 3, 4))
    exact = run(lambda p, x: ref.ccc_paper(p, x, 2), double(params), x, d)
    leaves = {name: value.to(device, dtype).requires_grad_() for name, value in params.items()}
    actual = cpu(run(fused(2), leaves, x.to(device, dtype), d.to(device, dtype)))
    assert_same({name: value.double() for name, value in actual.items()}, exact)


@pytest.mark.interpreter
def test_gradcheck() -> None:
    x = maps((2, 3, 2, 2, 2), torch.float64, "cpu").requires_grad_()
    own = [value.detach().requires_grad_() for value in values(parameters(3, 4, torch.float64))]
    assert torch.autograd.gradcheck(lambda x, *own: kernels.ccc(x, *own, 2), (x, *own), fast_mode=True)


@first_runs
def test_opcheck(device: str, dtype: torch.dtype) -> None:
    x, dy = (seeded(2, 4, 3, 2, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    leaves = values(parameters(4, 6, dtype, device))
    own = [value.detach() for value in leaves]
    torch.library.opcheck(kernels.ccc_op, (x.clone().requires_grad_(), leaves, 2, True))
    torch.library.opcheck(kernels.ccc_op, (x, own, 2, False))
    _, index, edges, ranks, weight, mix = kernels.ccc_op(x, own, 2, True)
    torch.library.opcheck(kernels.ccc_backward, (dy, x, weight, mix, index, edges, ranks, torch.float32))


@first_runs
def test_launches(device: str, dtype: torch.dtype, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = count_launches(monkeypatch)
    problem(2, 2, 4, 4, 2)(dtype, device).run()
    assert (launched.count("forward"), launched.count("backward")) == (3, 4 if many == 1 else 5)


@pytest.mark.parametrize("types", [(torch.float32,), (torch.float16,), (torch.float64, torch.float32)])
@first_runs
def test_parameters_may_have_another_dtype(device: str, dtype: torch.dtype, types: tuple[torch.dtype, ...]) -> None:
    """They are combined in float32 or their own dtype before they are rounded to that of the maps."""
    params = {
        name: value.detach().to(types[i % len(types)]).requires_grad_()
        for i, (name, value) in enumerate(parameters(6, 60, torch.float64, device).items())
    }
    x = maps((2, 6, 5, 12, 2), torch.float16, device)
    y = fused(2)(params, x)
    exact = torch.promote_types(torch.float32, types[0])
    same = [value.detach().to(exact) for value in values(params)]
    expected, *_, stacked, mixed = kernels.ccc_op(x, same, 2, True)
    assert torch.equal(y, expected)
    node, _, edge, _, mix, _ = same
    once = {"rtol": torch.finfo(x.dtype).eps, "atol": 0.0}  # PyTorch rounds float64 to float16 by way of float32
    assert_close(stacked, torch.cat([node - edge, edge]).to(x.dtype), **once)
    assert_close(mixed, mix.to(x.dtype), **once)
    y.float().sum().backward()
    assert all(value.grad is not None and value.grad.dtype == value.dtype for value in params.values())


@first_runs
def test_nothing_is_saved_without_gradients(device: str, dtype: torch.dtype) -> None:
    x = seeded(1, 4, 2, 3, dtype=dtype).to(device)
    own = [value.detach() for value in values(parameters(4, 6, dtype, device))]
    saved, lean = (kernels.ccc_op(x, own, 2, save) for save in (True, False))
    assert torch.equal(saved[0], lean[0])
    assert lean[2].numel() == lean[3].numel() == 0


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 513, 1, 1)}, "x must have at most 512 channels"),
        ({"x": torch.zeros(1, 1, 200, 200)}, "x must have at most"),
        ({"x": torch.zeros(6, 5, 12)}, r"x must be \(N, C, H, W\)"),
        ({"x": torch.zeros(1, 6, 5, 12, dtype=torch.int32)}, "x must be float32"),
        ({"node_weight": torch.zeros(60, 59)}, r"node_weight must have shape \(60, 60\)"),
        ({"mix_bias": torch.zeros(6, dtype=torch.int64)}, "mix_bias must be floating point"),
        ({"edge_bias": torch.zeros(60, device="meta")}, "edge_bias is on meta but x is on cpu"),
        ({"k": 0}, "k must be from 1 to the number of channels, 6, got 0"),
        ({"k": 7}, "k must be from 1"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    names = ("node_weight", "node_bias", "edge_weight", "edge_bias", "mix_weight", "mix_bias")
    own = dict(zip(names, values(parameters(6, 60, torch.float32)), strict=True))
    with pytest.raises(ValueError, match=message):
        kernels.ccc(**{"x": torch.zeros(1, 6, 5, 12), "k": 2, **own, **change})


class TestNative:
    """What only a GPU can show: races, real sizes, graphs."""

    pytestmark = NATIVE

    @pytest.mark.parametrize("dtype", common.DTYPES)
    @pytest.mark.parametrize("case", [(448, 128, 16, 16, 4), (14, 128, 16, 16, 4), (3, 512, 64, 64, 16)])
    def test_two_runs_are_identical(self, dtype: torch.dtype, case: tuple[int, ...]) -> None:
        """Programs read back what they have written: a missing barrier would show here."""
        assert_same(problem(*case)(dtype, "cuda").run(), problem(*case)(dtype, "cuda").run())

    @pytest.mark.parametrize("dtype", common.DTYPES)
    def test_one_launch_or_two_at_full_size(self, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = problem(448, 128, 16, 16, 4)(dtype, "cuda").run()
        decide(monkeypatch, ccc_backward, "MANY", 10**6)
        assert_runs_equal(problem(448, 128, 16, 16, 4)(dtype, "cuda").run(), expected, torch.finfo(dtype).eps)

    def test_more_than_2_to_the_31_elements(self) -> None:
        shape, k = (2**31 // (64 * 256) + 2, 64, 16, 16), 4
        x, params = torch.randn(shape, device="cuda", dtype=torch.bfloat16), parameters(64, 256, torch.bfloat16, "cuda")
        y = fused(k)(params, x)
        y.backward(x)
        assert torch.equal(y[-2:].detach(), fused(k)(params, x[-2:]).detach())
