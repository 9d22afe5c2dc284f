"""The fused CCC in Triton's interpreter, held to the reference: forward, backward, strides, ties, NaN, launches."""

from collections.abc import Callable, Iterator

import pytest
import torch
from compare import Params, assert_runs_equal, assert_within_budget, neighbour_gap, plain_ccc, run, seeded
from torch import Tensor
from torch.testing import assert_close

pytest.importorskip("triton")

from mol_fast.kernels import ccc as module
from mol_fast.kernels import ccc_backward, ccc_forward, common
from mol_fast.kernels.ccc import ccc

from mol_fast import batched
from mol_fast import reference as ref

pytestmark = pytest.mark.interpreter

Shape = tuple[int, int, int, int]

# Maps, channels, height, width, k: more tiles of one kind than of another, and sizes that fill no tile.
CASES = [
    (3, 6, 5, 12, 2),
    (1, 6, 5, 12, 1),
    (1, 5, 3, 3, 5),
    (2, 40, 9, 5, 4),
    (1, 130, 2, 10, 3),
    (2, 16, 8, 8, 3),
    (1, 1, 1, 1, 1),
]


def parameters(c: int, d: int, seed: int = 10) -> Params:
    shapes = {"node.weight": (d, d), "node.bias": (d,), "edge.weight": (d, d), "edge.bias": (d,)}
    shapes |= {"mix.weight": (c, c, 1, 1), "mix.bias": (c,)}
    return {
        name: seeded(*shape, seed=seed + i, dtype=torch.float64) * shape[0] ** -0.5
        for i, (name, shape) in enumerate(shapes.items())
    }


def maps(shape: Shape, k: int) -> Tensor:
    """Maps whose neighbours no rounding changes."""
    candidates = (seeded(*shape, seed=seed, dtype=torch.float64) for seed in range(1000))
    return next(x for x in candidates if neighbour_gap(x.half(), k, "paper") > 1e-4)


def leaves(params: Params, dtype: torch.dtype) -> Params:
    return {name: value.to(dtype, copy=True).requires_grad_() for name, value in params.items()}


def values(params: Params) -> list[Tensor]:
    """The parameters as the operator takes them."""
    return [value[:, :, 0, 0] if name == "mix.weight" else value for name, value in params.items()]


def fused(k: int) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: ccc(x, *values(params), k)


def run_fused(case: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Output and gradients on the test's own numbers."""
    *shape, k = case
    x, g = seeded(*shape, dtype=dtype), seeded(*shape, seed=99, dtype=dtype)
    return run(fused(k), leaves(parameters(shape[1], shape[2] * shape[3]), dtype), x, g)


@pytest.mark.parametrize("case", CASES)
def test_is_the_reference(case: tuple[int, ...]) -> None:
    *shape, k = case
    x, g = seeded(*shape, dtype=torch.float64), seeded(*shape, seed=99, dtype=torch.float64)
    params = parameters(shape[1], shape[2] * shape[3])
    exact = run(lambda p, x: ref.ccc_paper(p, x, k), leaves(params, torch.float64), x, g)
    assert_runs_equal(run(fused(k), leaves(params, torch.float64), x, g), exact, 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_precision(case: tuple[int, ...], dtype: torch.dtype) -> None:
    *shape, k = case
    x = maps((shape[0], shape[1], shape[2], shape[3]), k).to(dtype)
    g = seeded(*shape, seed=99, dtype=dtype)
    params = {name: value.to(dtype) for name, value in parameters(shape[1], shape[2] * shape[3]).items()}
    exact = run(lambda p, x: ref.ccc_paper(p, x, k), leaves(params, torch.float64), x.double(), g.double())
    plain = run(lambda p, x: plain_ccc(p, x, k, "paper"), leaves(params, dtype), x, g)
    assert_within_budget(run(fused(k), leaves(params, dtype), x, g), plain, exact, dtype)


def strided(value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same numbers in other layouts."""
    n, c, h, w = value.shape
    yield "channels last", value.contiguous(memory_format=torch.channels_last)
    yield "transposed", value.mT.contiguous().mT
    yield "maps last", value.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    room = torch.full((n + 1, c + 2, h + 3, w + 4), torch.nan, dtype=value.dtype)
    room[1:, 1:-1, 2:-1, 3:-1] = value
    yield "cropped", room[1:, 1:-1, 2:-1, 3:-1]


@pytest.mark.parametrize("shape", [(2, 6, 5, 12), (2, 6, 1, 16), (2, 6, 16, 1)])
def test_strides(shape: Shape) -> None:
    _, c, h, w = shape
    params, x, g = parameters(c, h * w), seeded(*shape), seeded(*shape, seed=99)

    def outcome(x: Tensor, g: Tensor) -> dict[str, Tensor]:
        own = leaves(params, torch.float32)
        y = fused(2)(own, x)
        gradients = torch.autograd.grad(y, list(own.values()), g)
        (dx,) = torch.autograd.grad(fused(2)(own, leaf := x.detach().requires_grad_()), leaf, g)
        return {"y": y.detach(), "x": dx, **dict(zip(own, gradients, strict=True))}

    expected = outcome(x, g)
    assert expected["y"].is_contiguous()
    for (name, x_strided), (_, g_strided) in zip(strided(x), strided(g), strict=True):
        for ours in (outcome(x_strided, g), outcome(x, g_strided)):
            for key, value in expected.items():
                assert torch.equal(ours[key], value), (name, key)


def test_expanded() -> None:
    """Maps and gradients with stride 0, as of `y.sum().backward()`."""
    x, params = seeded(1, 6, 5, 12).expand(3, 6, 5, 12), parameters(6, 60)
    ones = torch.ones(3, 6, 5, 12)
    expected = run(fused(2), leaves(params, torch.float32), x.contiguous(), ones)
    own = leaves(params, torch.float32)
    y = fused(2)(own, x)
    assert torch.equal(y, expected["y"])
    y.sum().backward()
    for name, value in own.items():
        assert value.grad is not None
        assert torch.equal(value.grad, expected[name]), name


def test_int64_offsets_are_int32_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_fused((2, 6, 5, 12, 2))
    monkeypatch.setattr(common, "wide", lambda *tensors: True)
    for name, value in run_fused((2, 6, 5, 12, 2)).items():
        assert torch.equal(value, expected[name]), name


def test_wide_looks_at_one_map() -> None:
    """Maps beyond 2^31 elements need no int64 within a map; a map whose channels lie far apart does."""
    far = torch.empty_strided((1, 6, 4, 4), (0, 2**29, 4, 1), device="meta")
    many = torch.empty((2**25, 6, 4, 4), device="meta")
    index = torch.empty((1, 2, 6), dtype=torch.int16, device="meta")
    assert ccc_forward.neighbours_launch(far, index, "cuda").constants["WIDE"]
    assert not ccc_forward.neighbours_launch(many, index, "cuda").constants["WIDE"]


@pytest.fixture(params=[1, 128], ids=["one launch", "two launches"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of maps from which on the gradients of a map are made in one launch."""
    monkeypatch.setattr(ccc_backward, "MANY", request.param)


@pytest.mark.parametrize("case", [(2, 6, 4, 12, 2), (2, 40, 8, 8, 3)])
def test_one_program_per_map(case: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_fused(case)
    monkeypatch.setattr(ccc_backward, "MANY", 1)
    for name, value in run_fused(case).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.usefixtures("many")
def test_every_output_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    case = (2, 6, 4, 12, 2)
    expected = run_fused(case)
    empty = torch.empty

    def poisoned(*args: object, **kwargs: object) -> Tensor:
        value = empty(*args, **kwargs)  # type: ignore[call-overload]
        return value.fill_(torch.nan if value.is_floating_point() else 77)

    monkeypatch.setattr(torch, "empty", poisoned)
    for name, value in run_fused(case).items():
        assert torch.equal(value, expected[name]), name


def test_no_maps() -> None:
    x, own = torch.zeros(0, 6, 5, 12, requires_grad=True), leaves(parameters(6, 60), torch.float32)
    y = fused(2)(own, x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    for value in own.values():
        assert value.grad is not None
        assert torch.equal(value.grad, torch.zeros_like(value))


def test_integers_are_exact() -> None:
    """Whole numbers without a tie in the max: output and gradients are exact in float32."""

    def whole(*shape: int, seed: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)).double()

    def untied(x: Tensor, edge: Tensor) -> bool:
        q = torch.nn.functional.linear(x.flatten(2), edge)
        best = q.gather(1, index(x, 2)[:, 0, :, None].long().expand_as(q))
        second = q.gather(1, index(x, 2)[:, 1, :, None].long().expand_as(q))
        return neighbour_gap(x, 2, "paper") > 1e-3 and bool((best != second).all())

    params = {name: whole(*value.shape, seed=i) for i, (name, value) in enumerate(parameters(6, 12).items())}
    x = next(x for x in (whole(2, 6, 3, 4, seed=seed) for seed in range(500)) if untied(x, params["edge.weight"]))
    g = whole(2, 6, 3, 4, seed=999)
    exact = run(lambda p, x: ref.ccc_paper(p, x, 2), leaves(params, torch.float64), x, g)
    ours = run(fused(2), leaves(params, torch.float32), x.float(), g.float())
    for name, value in exact.items():
        assert torch.equal(ours[name].double(), value), name


def index(x: Tensor, k: int) -> Tensor:
    """The neighbours `(N, k, C)` that the kernel selects."""
    found = torch.empty((x.shape[0], k, x.shape[1]), dtype=torch.int16)
    ccc_forward.neighbours_launch(x, found, common.target()).run(x.device)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(("shape", "k"), [((2, 6, 5, 12), 6), ((1, 130, 3, 7), 5), ((1, 33, 4, 4), 33)])
def test_neighbours_are_the_most_similar(shape: Shape, k: int, dtype: torch.dtype) -> None:
    x = seeded(*shape, dtype=dtype)
    unit = torch.nn.functional.normalize(x.double().flatten(2), dim=2)
    similarity = unit @ unit.mT
    found = index(x, k).long().mT
    assert all(len(set(row)) == k for row in found.flatten(0, 1).tolist())
    assert torch.equal(found[:, :, 0], torch.arange(shape[1]).expand(shape[:2]))
    chosen = similarity.gather(2, found)
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert_close(chosen, similarity.topk(k, dim=2).values, rtol=0, atol=tolerance)


def test_ties_go_to_the_lowest_index() -> None:
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1]])
    x = signs[[0, 1, 0, 1, 0]].view(1, 5, 2, 2)
    expected = [[0, 2, 4, 1], [1, 3, 0, 2], [0, 2, 4, 1], [1, 3, 0, 2], [0, 2, 4, 1]]
    assert index(x, 4)[0].T.tolist() == expected


def test_zero_channels_have_similarity_zero() -> None:
    x = seeded(1, 4, 3, 3)
    x[0, 2] = 0
    assert index(x, 4)[0, :, 2].tolist() == [0, 1, 2, 3]
    assert torch.isfinite(fused(2)(leaves(parameters(4, 9), torch.float32), x)).all()


def test_nan_is_the_largest_similarity() -> None:
    x, params = seeded(2, 6, 5, 12), leaves(parameters(6, 60), torch.float32)
    clean = fused(2)(params, x)
    x[0, 4, 2, 3] = torch.nan
    assert (index(x, 2)[0, 0, [0, 1, 2, 3, 5]] == 4).all()
    y = fused(2)(params, x)
    assert torch.equal(torch.isnan(y), torch.isnan(batched.ccc_paper(x, *values(params), 2)))
    assert torch.isnan(y[0]).all()
    assert torch.equal(y[1], clean[1])


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_infinity_is_as_in_pytorch(value: float) -> None:
    """With all channels as neighbours, so that the choice is the same."""
    x, params = seeded(1, 6, 3, 4), leaves(parameters(6, 12), torch.float32)
    x[0, 4, 2, 3] = value
    assert_close(fused(6)(params, x), batched.ccc_paper(x, *values(params), 6), equal_nan=True)


def test_gradcheck() -> None:
    x = maps((2, 3, 2, 2), 2).requires_grad_()
    params = leaves(parameters(3, 4), torch.float64)
    own = [value.detach().requires_grad_() for value in values(params)]
    assert torch.autograd.gradcheck(lambda x, *own: ccc(x, *own, 2), (x, *own), fast_mode=True)


def test_opcheck() -> None:
    x, d = seeded(2, 4, 3, 2).requires_grad_(), 6
    own = [seeded(*shape, seed=i).requires_grad_() for i, shape in enumerate([(2 * d, d), (d,), (4, 4), (4,)])]
    for save in (True, False):
        skipped = () if save else ("test_aot_dispatch_dynamic", "test_autograd_registration")
        torch.library.opcheck(
            module.ccc_op,
            (x, *own, 2, save) if save else (x.detach(), *(value.detach() for value in own), 2, save),
            test_utils=[t for t in UTILITIES if t not in skipped],
        )
    _, *saved = module.ccc_op(x.detach(), *(value.detach() for value in own), 2, True)
    arguments = (seeded(2, 4, 3, 2, seed=5), x.detach(), own[0].detach(), own[2].detach(), *saved)
    torch.library.opcheck(module.ccc_backward, arguments)


UTILITIES = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def test_double_backward_raises() -> None:
    x, params = seeded(1, 4, 2, 3).requires_grad_(), leaves(parameters(4, 6), torch.float32)
    (dx,) = torch.autograd.grad(fused(2)(params, x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        dx.sum().backward()


def test_compiles() -> None:
    x, params = seeded(2, 4, 3, 5), parameters(4, 15)
    layer = torch.compile(fused(2), fullgraph=True, backend="aot_eager")
    expected, ours = (run(f, leaves(params, torch.float32), x, x) for f in (fused(2), layer))
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


def test_parameters_of_another_dtype() -> None:
    """float32 parameters are combined before they are rounded to the dtype of the maps."""
    x, params = seeded(2, 6, 5, 12, dtype=torch.float16), leaves(parameters(6, 60), torch.float32)
    y = fused(2)(params, x)
    assert y.dtype == torch.float16
    node, node_bias, edge, edge_bias, mix, mix_bias = values(params)
    weight, bias = torch.cat([node - edge, edge]).half(), (node_bias + edge_bias).half()
    assert torch.equal(y, module.ccc_op(x, weight, bias, mix.half(), mix_bias.half(), 2, True)[0])
    y.float().sum().backward()
    assert all(value.grad is not None and value.grad.dtype == torch.float32 for value in params.values())


def test_saves_nothing_without_gradients() -> None:
    x, own = seeded(1, 4, 2, 3), [seeded(12, 6), seeded(6), seeded(4, 4), seeded(4)]
    saved, lean = (module.ccc_op(x, *own, 2, save) for save in (True, False))
    assert torch.equal(saved[0], lean[0])
    assert lean[2].numel() == lean[3].numel() == 0


@pytest.mark.parametrize(("many", "backward"), [(1, 3), (128, 4)], indirect=["many"])
def test_launches(many: None, backward: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    original = common.Launch.run
    monkeypatch.setattr(common.Launch, "run", lambda self, device: (names.append(self.name), original(self, device)))
    x, params = seeded(2, 2, 4, 4).requires_grad_(), leaves(parameters(2, 16), torch.float32)
    y = fused(2)(params, x)
    assert len(names) == 2
    y.sum().backward()
    assert len(names) == 2 + backward


def test_traffic() -> None:
    """The bytes of the module's documentation, at the standard shape."""
    launches = module.launches((448, 128, 16, 16), 4, torch.bfloat16, "cuda")
    x = 448 * 128 * 16 * 16 * 2
    moved = {
        phase: sum(step.bytes for step in launches if step.phase == phase) / x for phase in ("forward", "backward")
    }
    assert moved["forward"] == pytest.approx(4.5, abs=0.1)
    assert moved["backward"] == pytest.approx(9.5, abs=0.6)
    ranks_in_two_bytes = module.launches((448, 300, 4, 4), 256, torch.bfloat16, "cuda")
    assert ranks_in_two_bytes[1].arguments["p_winner"].dtype == torch.int16  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 513, 1, 1)}, "x must have at most 512 channels"),
        ({"x": torch.zeros(1, 1, 200, 200)}, "x must have at most"),
        ({"x": torch.zeros(4, 5, 12)}, "x must be"),
        ({"x": torch.zeros(1, 6, 5, 12, dtype=torch.int32)}, "x must be float32"),
        ({"node_weight": torch.zeros(60, 59)}, "node_weight must have shape"),
        ({"mix_bias": torch.zeros(6, dtype=torch.int64)}, "mix_bias must be floating point"),
        ({"edge_bias": torch.zeros(60, device="meta")}, "edge_bias is on meta"),
        ({"k": 0}, "k must be from 1 to the number of channels, 6, got 0"),
        ({"k": 7}, "k must be from 1"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    names = ("node_weight", "node_bias", "edge_weight", "edge_bias", "mix_weight", "mix_bias")
    good = {"x": torch.zeros(1, 6, 5, 12), **dict(zip(names, values(parameters(6, 60)), strict=True)), "k": 2}
    with pytest.raises(ValueError, match=message):
        ccc(**{**good, **change})  # type: ignore[arg-type]
