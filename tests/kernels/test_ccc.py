"""The fused CCC held to the reference: in Triton's interpreter, and natively where there is a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.compare import Params, assert_runs_equal, assert_within_budget, neighbour_gap, plain_ccc, run, seeded
from harness.kernel_checks import (
    LAYOUTS,
    NATIVE,
    count_launches,
    cpu,
    decide,
    each_run,
    first_runs,
    poison,
    run_strided,
)
from torch import Tensor
from torch.testing import assert_close

pytest.importorskip("triton")

from mol_fast.kernels import ccc as kernels
from mol_fast.kernels import ccc_backward, ccc_forward, ccc_parameters, common, resources, tiles

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


SMALL = (ccc_parameters.ccc_stack_kernel, ccc_parameters.ccc_sum_kernel)
"""The kernels on parameters, which touch no map."""


def parameters(c: int, d: int, dtype: torch.dtype, device: str = "cpu") -> Params:
    """Leaves by name, the same numbers whatever the dtype."""
    shapes = {"node.weight": (d, d), "node.bias": (d,), "edge.weight": (d, d), "edge.bias": (d,)}
    shapes |= {"mix.weight": (c, c, 1, 1), "mix.bias": (c,)}
    values = (
        seeded(*shape, seed=10 + i, dtype=torch.float64) * shape[0] ** -0.5 for i, shape in enumerate(shapes.values())
    )
    return {name: value.to(device, dtype).requires_grad_() for name, value in zip(shapes, values, strict=True)}


def values(params: Params) -> list[Tensor]:
    """The parameters as the operator takes them."""
    return [value[:, :, 0, 0] if name == "mix.weight" else value for name, value in params.items()]


def fused(k: int) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: kernels.ccc(x, *values(params), k)


def unfused(k: int) -> Callable[[Params, Tensor], Tensor]:
    """The batched PyTorch path."""

    def layer(params: Params, x: Tensor) -> Tensor:
        node, node_bias, edge, edge_bias, mix, mix_bias = values(params)
        return batched_ccc.ccc_paper(x, node, node_bias, edge, edge_bias, mix, mix_bias, k)

    return layer


def double(params: Params) -> Params:
    return {name: value.detach().double().cpu().requires_grad_() for name, value in params.items()}


def maps(case: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Maps whose neighbours no rounding changes."""
    *shape, k = case
    candidates = (seeded(*shape, seed=seed, dtype=dtype) for seed in range(1000))
    return next(x for x in candidates if neighbour_gap(x, k, "paper") > 1e-5).to(device)


def run_fused(case: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    *shape, k = case
    x, d = (seeded(*shape, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    return run(fused(k), parameters(shape[1], shape[2] * shape[3], dtype, device), x, d)


def index(x: Tensor, k: int) -> Tensor:
    """The neighbours `(N, k, C)` that the kernel selects."""
    found = torch.empty((x.shape[0], k, x.shape[1]), dtype=torch.int16, device=x.device)
    ccc_forward.neighbours_launch(x, found, common.target()).run(x.device)
    return found.long().cpu()


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


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


@pytest.mark.parametrize(("h", "w"), [(5, 12), (1, 16), (16, 1)])
@first_runs
def test_strides_do_not_matter(device: str, dtype: torch.dtype, h: int, w: int) -> None:
    """Channels last, transposed, sliced and expanded maps and gradients give bit for bit what contiguous ones give."""
    x, d = (seeded(1, 4, h, w, seed=seed, dtype=dtype).to(device).expand(2, 4, h, w) for seed in (0, 99))
    expected = run_strided(fused(2), parameters(4, h * w, dtype, device), x.contiguous(), d.contiguous())
    assert expected["y"].is_contiguous()
    for layout in LAYOUTS:
        assert_same(run_strided(fused(2), parameters(4, h * w, dtype, device), layout(x), layout(d)), expected)


@first_runs
def test_expanded_gradient(device: str, dtype: torch.dtype) -> None:
    """Strides of 0 throughout, as of `y.sum().backward()`."""
    x = seeded(3, 6, 5, 12, dtype=dtype).to(device)
    one = torch.ones((), dtype=dtype, device=device).expand(3, 6, 5, 12)
    expected = run(fused(2), parameters(6, 60, dtype, device), x, one.contiguous())
    assert_same(run_strided(fused(2), parameters(6, 60, dtype, device), x, one), expected)


@first_runs
def test_int64_offsets_change_nothing(device: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_fused((2, 6, 5, 12, 2), dtype, device)
    decide(monkeypatch, common, "INT32_LIMIT", 1)
    assert_same(run_fused((2, 6, 5, 12, 2), dtype, device), expected)


@pytest.mark.aot
def test_int64_offsets_within_a_map() -> None:
    """Many maps need none, offsets of maps being int64 anyway; a map whose channels lie far apart does."""
    found = torch.empty((1, 2, 6), dtype=torch.int16, device="meta")
    for strides, wide in (((96, 16, 4, 1), False), ((0, 2**29, 4, 1), True)):
        x = torch.empty_strided((2**25, 6, 4, 4), strides, device="meta")
        assert ccc_forward.neighbours_launch(x, found, "cuda").constants["WIDE"] == wide


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
    expected = run_fused(case, dtype, device)
    decide(monkeypatch, ccc_backward, "MANY", 1)
    assert_runs_equal(run_fused(case, dtype, device), expected, 1e-6)


OTHER_TILES = [
    {"ccc_neighbours_kernel": {"BI": 16, "BD": 32}, "ccc_edges_kernel": {"BD": 16, "TURNS": 2, "BK": 64}},
    {"ccc_edges_kernel": {"BD": 16, "TURNS": 4, "BK": 16}},
    {name: {"BI": 64, "BR": 1} for name in ("ccc_edge_gradient_kernel", "ccc_map_gradient_kernel")},
    {name: {"BI": 8, "BR": 16} for name in ("ccc_edge_gradient_kernel", "ccc_map_gradient_kernel")},
    {"ccc_map_gradient_kernel": {"BD": 64, "BX": 32}, "ccc_parameter_gradient_kernel": {"BA": 32, "BB": 16, "BR": 64}},
]
"""Fewer and more turns, ranks and channels at once than the pinned ones, sides that do not divide the sizes."""


@pytest.mark.parametrize("changes", OTHER_TILES)
@pytest.mark.parametrize("case", [(2, 40, 6, 8, 3), (1, 20, 4, 4, 17)])
@first_runs
def test_tiles_do_not_matter(
    device: str, dtype: torch.dtype, case: tuple[int, ...], changes: dict[str, dict[str, int]], many: int
) -> None:
    """Up to the order of the sums."""
    expected = run_fused(case, dtype, device)
    with tiles.override(changes):
        assert_runs_equal(run_fused(case, dtype, device), expected, 1e-6)


@first_runs
def test_every_output_is_written(device: str, dtype: torch.dtype, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_fused((2, 6, 4, 12, 2), dtype, device)
    poison(monkeypatch)
    assert_same(run_fused((2, 6, 4, 12, 2), dtype, device), expected)


@each_run
def test_no_maps(device: str, dtype: torch.dtype) -> None:
    x = torch.zeros(0, 6, 5, 12, dtype=dtype, device=device, requires_grad=True)
    params = parameters(6, 60, dtype, device)
    y = fused(2)(params, x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad is not None
    assert all(torch.equal(value.grad, torch.zeros_like(value)) for value in params.values())  # type: ignore[arg-type]


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
def test_compiles_without_a_graph_break(device: str, dtype: torch.dtype) -> None:
    x, d = (seeded(2, 4, 3, 5, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    layer = torch.compile(fused(2), fullgraph=True, backend="aot_eager")
    expected = run(fused(2), parameters(4, 15, dtype, device), x, d)
    assert_same(run(layer, parameters(4, 15, dtype, device), x, d), expected)


@first_runs
def test_double_backward_raises(device: str, dtype: torch.dtype) -> None:
    x = seeded(1, 4, 2, 3, dtype=dtype).to(device).requires_grad_()
    (dx,) = torch.autograd.grad(fused(2)(parameters(4, 6, dtype, device), x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="ccc_backward"):
        dx.sum().backward()


@first_runs
def test_launches(device: str, dtype: torch.dtype, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = count_launches(monkeypatch)
    run_fused((2, 2, 4, 4, 2), dtype, device)
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


@pytest.mark.aot
def test_a_tensor_on_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="x must be on a GPU"):
        fused(2)(parameters(4, 6, torch.float32), torch.zeros(1, 4, 2, 3))


@pytest.mark.aot
def test_traffic_is_that_of_the_docstring() -> None:
    """Passes over the maps, and parameters and partial sums at most a twentieth beside them; and so is what is moved
    to stack the parameters and to add up the partial sums of their gradients."""
    launches = kernels.launches((448, 128, 16, 16), 4, torch.bfloat16, "cuda")
    maps = 2 * 448 * 128 * 256
    for phase, passes in (("forward", 4.25), ("backward", 9.25)):
        own = [launch.bytes for launch in launches if launch.phase == phase and launch.kernel in SMALL]
        moved = sum(launch.bytes for launch in launches if launch.phase == phase) - sum(own)
        assert len(own) == 1
        assert sum(own) <= 0.05 * passes * maps
        assert passes * maps <= moved <= 1.05 * passes * maps, (phase, moved / maps)


@pytest.mark.aot
def test_wider_programs_read_less_again() -> None:
    """Of twice the pixels: half as many programs, each of which reads its map and mix."""

    def edges(turns: int) -> common.Launch:
        with tiles.override({"ccc_edges_kernel": {"BD": 32, "TURNS": turns}}):
            launches = kernels.launches((448, 128, 16, 16), 4, torch.bfloat16, "cuda")
        return next(launch for launch in launches if launch.name == "ccc_edges_kernel")

    maps, mix = 2 * 448 * 128 * 256, 2 * 128 * 128
    assert edges(1).bytes == edges(2).bytes
    assert edges(1).l2_bytes - edges(2).l2_bytes == 4 * maps + 4 * 448 * mix


@pytest.mark.aot
@pytest.mark.parametrize(("shape", "k"), [((1, 1, 1, 1), 1), ((200, 2, 4, 4), 2)])
@pytest.mark.parametrize("wide", [False, True])
def test_extreme_sizes_compile(
    shape: tuple[int, int, int, int], k: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and strides of 1 become constants in a real launch, and large maps have int64 offsets."""
    if wide:
        decide(monkeypatch, common, "INT32_LIMIT", 1)
    for launch in kernels.launches(shape, k, torch.bfloat16, "cuda"):
        resources.compile_launch(launch, resources.TARGETS["sm_90"])


class TestNative:
    """What only a GPU can show: races, real sizes, graphs."""

    pytestmark = NATIVE

    @pytest.mark.parametrize("dtype", common.DTYPES)
    @pytest.mark.parametrize("case", [(448, 128, 16, 16, 4), (14, 128, 16, 16, 4), (3, 512, 64, 64, 16)])
    def test_two_runs_are_identical(self, dtype: torch.dtype, case: tuple[int, ...]) -> None:
        """Programs read back what they have written: a missing barrier would show here."""
        assert_same(run_fused(case, dtype, "cuda"), run_fused(case, dtype, "cuda"))

    @pytest.mark.parametrize("dtype", common.DTYPES)
    def test_one_launch_or_two_at_full_size(self, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = run_fused((448, 128, 16, 16, 4), dtype, "cuda")
        decide(monkeypatch, ccc_backward, "MANY", 10**6)
        assert_runs_equal(run_fused((448, 128, 16, 16, 4), dtype, "cuda"), expected, torch.finfo(dtype).eps)

    def test_graph_capture(self) -> None:
        x, params = seeded(7, 128, 16, 16).cuda().bfloat16(), parameters(128, 256, torch.bfloat16, "cuda")
        with torch.no_grad():
            expected = fused(4)(params, x)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = fused(4)(params, x)
            y.zero_()
            graph.replay()
        assert torch.equal(y, expected)

    def test_more_than_2_to_the_31_elements(self) -> None:
        shape, k = (2**31 // (64 * 256) + 2, 64, 16, 16), 4
        x, params = torch.randn(shape, device="cuda", dtype=torch.bfloat16), parameters(64, 256, torch.bfloat16, "cuda")
        y = fused(k)(params, x)
        y.backward(x)
        assert torch.equal(y[-2:].detach(), fused(k)(params, x[-2:]).detach())
