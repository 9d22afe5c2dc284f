"""The fused FCC held to the reference: in Triton's interpreter, and natively where there is a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness.compare import Params, assert_runs_equal, assert_within_budget, plain_fcc, run, seeded
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

from mol_fast.kernels import common, fcc_shared, resources, tiles
from mol_fast.kernels import fcc as kernels

from mol_fast import reference as ref

NAMES = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2", "norm.weight", "norm.bias")

# N, C, H, W, G: asymmetric, several tiles of maps with a ragged end, more than one block of a map, single rows.
CASES = [(4, 6, 5, 12, 2), (1, 4, 7, 3, 1), (3, 2, 16, 16, 1), (11, 2, 4, 5, 1), (2, 2, 33, 20, 2), (4, 2, 1, 20, 2)]


def parameters(c: int, h: int, w: int, dtype: torch.dtype, device: str = "cpu") -> Params:
    """Leaves by name, the same numbers whatever the dtype; kernels small enough to keep values of order 1."""
    params = {}
    for half, (first, second) in (("vh", (h, w)), ("hv", (w, h))):
        lengths = (first, first, 0, second, second, 0, 0, 0)
        for seed, (name, length) in enumerate(zip(NAMES, lengths, strict=True)):
            shape = (c // 2, length) if length else (c // 2,)
            value = seeded(*shape, seed=seed + 10 * (half == "hv"), dtype=torch.float64)
            value = value * length**-0.5 if "kernel" in name else value
            params[f"{half}.{name}"] = value.to(device, dtype).requires_grad_()
    return params


def branch(params: Params, half: str) -> list[Tensor]:
    return [params[f"{half}.{name}"] for name in NAMES]


def statistics(c: int, groups: int, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor]:
    mean, var = seeded(groups, c, seed=77), seeded(groups, c, seed=78).square() + 0.3
    return {"mean": mean.to(device, dtype), "var": var.to(device, dtype)}


def fused(groups: int, **given: Tensor) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: kernels.fcc(x, branch(params, "vh"), branch(params, "hv"), groups=groups, **given)[0]


def by_group(function: Any, groups: int, **given: Tensor) -> Callable[[Params, Tensor], Tensor]:
    """`function(params, x, training)` of each group's maps by themselves."""

    def layer(params: Params, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        half = x.shape[1] // 2
        for g in range(groups):
            buffers = {}
            for name, part in (("vh", slice(half)), ("hv", slice(half, None))):
                zeros = torch.zeros(half, dtype=x.dtype, device=x.device)
                buffers[f"{name}.norm.running_mean"] = given["mean"][g, part].to(x.dtype) if given else zeros
                buffers[f"{name}.norm.running_var"] = given["var"][g, part].to(x.dtype) if given else zeros + 1
                buffers[f"{name}.norm.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
            y[g::groups] = function({**params, **buffers}, x[g::groups], not given)
        return y

    return layer


def double(params: Params) -> Params:
    return {name: value.detach().double().cpu().requires_grad_() for name, value in params.items()}


def summands(layer: Callable[[Params, Tensor], Tensor], params: Params, x: Tensor, d: Tensor) -> dict[str, float]:
    """The size of the terms, one for each element of `d`, that make the gradients of the scalars of a channel.

    The maps are affine in each of these, so that their derivative is a difference.
    """
    with torch.no_grad():
        y = layer(params, x)
        scalars = [name for name, value in params.items() if value.dim() == 1]
        return {name: float((d * (layer({**params, name: params[name] + 1}, x) - y)).norm()) for name in scalars}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
@each_run
def test_is_the_reference(device: str, dtype: torch.dtype, case: tuple[int, ...], training: bool) -> None:
    """Twice the error of PyTorch's own layers in the same dtype, and one rounding."""
    n, c, h, w, groups = case
    x, d = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    given = {} if training else statistics(c, groups, torch.float32, device)
    params = parameters(c, h, w, dtype, device)
    layer, whole = by_group(ref.fcc, groups, **cpu(given)), (double(params), x.cpu().double(), d.cpu().double())
    exact = run(layer, *whole)
    actual = cpu(run(fused(groups, **given), params, x, d))
    if dtype == torch.float64:
        assert_runs_equal(actual, exact, 1e-12)
    else:
        plain = run(by_group(plain_fcc, groups, **given), parameters(c, h, w, dtype, device), x, d)
        assert_within_budget(actual, cpu(plain), exact, dtype, summands(layer, *whole))


@each_run
def test_statistics_are_those_of_each_group(device: str, dtype: torch.dtype) -> None:
    n, c, h, w, groups = 9, 4, 5, 12, 3
    params = parameters(c, h, w, dtype, device)
    x = seeded(n, c, h, w, dtype=dtype).to(device)
    _, mean, var = kernels.fcc(x, branch(params, "vh"), branch(params, "hv"), groups=groups)
    pos = double(params)
    u = x.cpu().double()
    u = torch.cat([u[:, :2] + pos["vh.pos1"][:, :, None], u[:, 2:] + pos["hv.pos1"][:, None, :]], dim=1)
    u = u.view(n // groups, groups, c, h * w).permute(1, 2, 0, 3).flatten(2).detach()
    assert mean.dtype == common.accumulator_dtype(dtype)
    torch.testing.assert_close(mean.cpu().double(), u.mean(dim=2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(var.cpu().double(), u.var(dim=2, correction=0), rtol=1e-5, atol=0.0)
    assert not mean.requires_grad


@pytest.mark.parametrize("programs", [1, 10**6])
@first_runs
def test_statistics_survive_a_large_mean(
    device: str, dtype: torch.dtype, programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean of 4000 deviations, in one chunk of many tiles and in many chunks."""
    decide(monkeypatch, fcc_shared, "PROGRAMS", programs)
    params = parameters(2, 8, 8, dtype, device)
    x = (seeded(23, 2, 8, 8) + 4000).to(device, dtype)
    _, mean, var = kernels.fcc(x, branch(params, "vh"), branch(params, "hv"))
    pos = double(params)
    u = x.cpu().double() + torch.cat(
        [pos["vh.pos1"][:, :, None] * torch.ones(8), pos["hv.pos1"][:, None, :].expand(1, 8, 8)]
    )
    torch.testing.assert_close(mean.cpu().double()[0], u.mean(dim=(0, 2, 3)), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(var.cpu().double()[0], u.var(dim=(0, 2, 3), correction=0), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("programs", [1, 2])
@first_runs
def test_chunks_do_not_matter(device: str, dtype: torch.dtype, programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few long chunks give what many short ones give, up to the order of the sums."""
    x, d = (seeded(13, 2, 9, 9, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    many = run(fused(1), parameters(2, 9, 9, dtype, device), x, d)
    decide(monkeypatch, fcc_shared, "PROGRAMS", 2 * programs)
    assert fcc_shared.problem(x, 1).splits == programs
    few = run(fused(1), parameters(2, 9, 9, dtype, device), x, d)
    assert_runs_equal(few, many, 1e-5)


@pytest.mark.parametrize("change", [{"BG": 2, "BP": 2}, {"BG": 4, "BP": 1}, {"BG": 16, "BP": 16}])
@pytest.mark.parametrize("training", [True, False])
@first_runs
def test_groups_and_parts_at_once_do_not_matter(
    device: str, dtype: torch.dtype, training: bool, change: dict[str, int]
) -> None:
    """Fewer than there are, with a rest, and more: the gradients are the same up to the order of the sums."""
    n, c, h, w, groups = 15, 2, 5, 18, 5
    given = {} if training else statistics(c, groups, dtype, device)
    x, d = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    expected = run(fused(groups, **given), parameters(c, h, w, dtype, device), x, d)
    with tiles.override({"fcc_parameters_kernel": change}):
        assert_runs_equal(run(fused(groups, **given), parameters(c, h, w, dtype, device), x, d), expected, 1e-5)


def test_only_scattered_maps_are_copied() -> None:
    """Maps whose rows or columns are runs are read where they are, those of channels last, or of a slice, are not."""
    x = seeded(3, 4, 5, 6)
    for kept in (x, x.mT, x[::2, 1:], x[:, :, :, 0:1], x[:1].expand(3, 4, 5, 6), x.sum().expand(3, 4, 5, 6)):
        assert fcc_shared.dense(kept) is kept
    for copied in (x.contiguous(memory_format=torch.channels_last), torch.stack([x, x], dim=-1)[..., 0]):
        dense = fcc_shared.dense(copied)
        assert dense.is_contiguous()
        assert torch.equal(dense, x)


@pytest.mark.parametrize("training", [True, False])
@first_runs
def test_strides_do_not_matter(device: str, dtype: torch.dtype, training: bool) -> None:
    """Channels last, transposed, sliced and expanded maps and gradients give bit for bit what contiguous ones give."""
    n, c, h, w = 2, 4, 5, 6
    given = {} if training else statistics(c, 1, dtype, device)
    x, d = (seeded(1, c, h, w, seed=seed, dtype=dtype).to(device).expand(n, c, h, w) for seed in (0, 99))
    expected = run_strided(fused(1, **given), parameters(c, h, w, dtype, device), x.contiguous(), d.contiguous())
    for layout in LAYOUTS:
        actual = run_strided(fused(1, **given), parameters(c, h, w, dtype, device), layout(x), layout(d))
        for name, value in expected.items():
            assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("case", [(6, 2, 5, 12, 3), (2, 2, 33, 40, 1)])
@pytest.mark.parametrize("training", [True, False])
@first_runs
def test_every_output_is_written(
    device: str, dtype: torch.dtype, training: bool, case: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    n, c, h, w, groups = case
    given = {} if training else statistics(c, groups, dtype, device)
    x, d = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    expected = run(fused(groups, **given), parameters(c, h, w, dtype, device), x, d)
    poison(monkeypatch)
    actual = run(fused(groups, **given), parameters(c, h, w, dtype, device), x, d)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("training", [True, False])
@first_runs
def test_int64_offsets_change_nothing(
    device: str, dtype: torch.dtype, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {} if training else statistics(2, 1, dtype, device)
    x, d = (seeded(3, 2, 5, 12, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    expected = run(fused(1, **given), parameters(2, 5, 12, dtype, device), x, d)
    decide(monkeypatch, common, "INT32_LIMIT", 1)
    actual = run(fused(1, **given), parameters(2, 5, 12, dtype, device), x, d)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@each_run
def test_integers_are_exact(device: str, dtype: torch.dtype) -> None:
    """Whole numbers small enough for every product and sum of them to be exact in every dtype."""
    generator = torch.Generator().manual_seed(0)
    n, c, h, w = 2, 4, 5, 6
    params = {
        name: torch.randint(-1, 2, value.shape, generator=generator).to(device, dtype).requires_grad_()
        for name, value in parameters(c, h, w, torch.float32).items()
    }
    x, d = (torch.randint(-1, 2, (n, c, h, w), generator=generator).to(device, dtype) for _ in range(2))
    given = {"mean": torch.zeros(1, c, device=device), "var": torch.ones(1, c, device=device)}
    layer = lambda p, x: kernels.fcc(x, branch(p, "vh"), branch(p, "hv"), eps=0.0, **given)[0]  # noqa: E731
    actual = run(layer, params, x, d)
    stats = {name: value.cpu().double() for name, value in given.items()}
    stats["var"] = stats["var"] - 1e-5
    exact = run(by_group(ref.fcc, 1, **stats), double(params), x.cpu().double(), d.cpu().double())
    for name, value in exact.items():
        assert torch.equal(actual[name].cpu(), value.round().to(dtype)), name


@each_run
def test_no_maps(device: str, dtype: torch.dtype) -> None:
    params = parameters(4, 3, 5, dtype, device)
    x = torch.zeros(0, 4, 3, 5, dtype=dtype, device=device, requires_grad=True)
    y, mean, var = kernels.fcc(x, branch(params, "vh"), branch(params, "hv"), groups=3)
    assert y.shape == x.shape
    assert torch.equal(mean, torch.zeros_like(mean))
    assert torch.equal(var, torch.ones_like(var))
    y.sum().backward()
    assert x.grad is not None
    assert all(torch.equal(value.grad, torch.zeros_like(value)) for value in params.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.interpreter
def test_gradcheck(training: bool) -> None:
    params = parameters(2, 3, 2, torch.float64)
    given = {} if training else statistics(2, 2, torch.float64)
    x = seeded(4, 2, 3, 2, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return fused(2, **given)(dict(zip(params, values, strict=True)), x)

    assert torch.autograd.gradcheck(function, (x, *params.values()), fast_mode=True)


@first_runs
def test_opcheck(device: str, dtype: torch.dtype) -> None:
    params = parameters(2, 3, 5, dtype, device)
    vh, hv = branch(params, "vh"), branch(params, "hv")
    x = seeded(4, 2, 3, 5, dtype=dtype).to(device).requires_grad_()
    mean, var = statistics(2, 2, dtype, device).values()
    torch.library.opcheck(kernels.fcc_train, (x, vh, hv, 2, 1e-5))
    torch.library.opcheck(kernels.fcc_eval, (x, vh, hv, mean, var, 1e-5))
    detached = [[value.detach() for value in half] for half in (vh, hv)]
    torch.library.opcheck(kernels.fcc_backward, (x.detach(), x.detach(), *detached, mean, var, 1e-5, True))


@first_runs
def test_compiles_without_a_graph_break(device: str, dtype: torch.dtype) -> None:
    x, d = (seeded(4, 2, 3, 5, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    layer = torch.compile(fused(2), fullgraph=True, backend="aot_eager")
    actual = run(layer, parameters(2, 3, 5, dtype, device), x, d)
    for name, value in run(fused(2), parameters(2, 3, 5, dtype, device), x, d).items():
        assert torch.equal(actual[name], value), name


@first_runs
def test_double_backward_raises(device: str, dtype: torch.dtype) -> None:
    params = parameters(2, 3, 5, dtype, device)
    x = seeded(2, 2, 3, 5, dtype=dtype).to(device).requires_grad_()
    (dx,) = torch.autograd.grad(fused(1)(params, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="fcc_backward"):
        dx.sum().backward()


@pytest.mark.parametrize(("training", "forward", "backward"), [(True, 2, 3), (False, 1, 3)])
@first_runs
def test_launches(
    device: str, dtype: torch.dtype, training: bool, forward: int, backward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = count_launches(monkeypatch)
    given = {} if training else statistics(2, 1, dtype, device)
    x = seeded(2, 2, 3, 5, dtype=dtype).to(device)
    run(fused(1, **given), parameters(2, 3, 5, dtype, device), x, x)
    assert (launched.count("forward"), launched.count("backward")) == (forward, backward)


@pytest.mark.parametrize("types", [(torch.float32,), (torch.float16,), (torch.float64, torch.float32)])
@first_runs
def test_parameters_may_have_another_dtype(device: str, dtype: torch.dtype, types: tuple[torch.dtype, ...]) -> None:
    """Half-precision maps with parameters of any dtype: the reference's result, gradients in the parameters' dtype."""
    params = {
        name: value.detach().to(types[i % len(types)]).requires_grad_()
        for i, (name, value) in enumerate(parameters(2, 5, 4, dtype, device).items())
    }
    x, d = (seeded(3, 2, 5, 4, seed=seed, dtype=torch.float16).to(device) for seed in (0, 99))
    exact = run(by_group(ref.fcc, 1), double(params), x.cpu().double(), d.cpu().double())
    for name, value in run(fused(1), params, x, d).items():
        assert value.dtype == (params[name].dtype if name in params else torch.float16), name
        torch.testing.assert_close(value.cpu().double(), exact[name], rtol=2e-2, atol=5e-2, msg=name)


@on_gpu
def test_runs_are_identical(device: str, dtype: torch.dtype) -> None:
    """Many programs at once, twice: a race would show."""
    x, d = (seeded(448, 128, 16, 16, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
    first, second = (run(fused(7), parameters(128, 16, 16, dtype, device), x, d) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@on_gpu
def test_cuda_graph(device: str, dtype: torch.dtype) -> None:
    params = parameters(4, 16, 16, dtype, device)
    x, fresh = (seeded(14, 4, 16, 16, seed=seed, dtype=dtype).to(device) for seed in (0, 1))
    with torch.no_grad():
        assert torch.equal(replayed(lambda t: fused(7)(params, t), x, fresh), fused(7)(params, fresh))


@pytest.mark.parametrize(("device", "dtype"), RUNS[-1:])
def test_more_than_int32_elements(device: str, dtype: torch.dtype) -> None:
    n, c = 4098, 128
    params = parameters(c, 64, 64, torch.float32, device)
    given = statistics(c, 1, torch.float32, device)
    x = torch.randn(n, c, 64, 64, dtype=dtype, device=device)
    assert x.numel() > 2**31
    with torch.no_grad():
        assert torch.equal(fused(1, **given)(params, x)[-3:], fused(1, **given)(params, x[-3:]))


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 3, 5)}, r"x must be \(N, C, H, W\)"),
        ({"x": torch.zeros(2, 3, 5, 6)}, r"x must have an even number"),
        ({"x": torch.zeros(2, 4, 65, 6)}, r"sides from 1 to 64"),
        ({"x": torch.zeros(2, 4, 5, 6, dtype=torch.int32)}, r"x must be float32"),
        ({"groups": 3}, r"groups must divide"),
        ({"vh": {"pos1": torch.zeros(2, 4)}}, r"vh.pos1 must have shape \(2, 5\)"),
        ({"hv": {"norm.bias": torch.zeros(2, dtype=torch.int64)}}, r"hv.bias must be floating point"),
        ({"hv": {"kernel2": torch.zeros(2, 5, device="meta")}}, r"hv.kernel2 is on meta but x is on cpu"),
        ({"mean": torch.zeros(3, 4), "var": torch.ones(1, 4)}, r"mean must have shape \(1, 4\)"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    params = parameters(4, 5, 6, torch.float32)
    halves = {half: branch({**params, **prefixed(half, change.get(half, {}))}, half) for half in ("vh", "hv")}
    others = {name: value for name, value in change.items() if name not in ("x", "vh", "hv")}
    with pytest.raises(ValueError, match=message):
        kernels.fcc(change.get("x", torch.zeros(2, 4, 5, 6)), **halves, **others)


def prefixed(half: str, values: dict[str, Tensor]) -> Params:
    return {f"{half}.{name}": value for name, value in values.items()}


@pytest.mark.interpreter
@pytest.mark.parametrize("name", ["mean", "var"])
def test_given_statistics_that_ask_for_a_gradient_are_refused(name: str) -> None:
    """They are constants of the kernels; without gradients they may come from anywhere."""
    params, given = parameters(2, 3, 5, torch.float32), statistics(2, 1, torch.float32)
    given[name].requires_grad_()
    x = seeded(2, 2, 3, 5)
    with pytest.raises(RuntimeError, match="mean and var have no gradient in the Triton kernels"):
        fused(1, **given)(params, x)
    with torch.no_grad():
        fused(1, **given)(params, x)


@pytest.mark.aot
def test_a_tensor_on_the_cpu_is_refused() -> None:
    params = parameters(2, 3, 5, torch.float32)
    with pytest.raises(ValueError, match="x must be on a GPU"):
        kernels.fcc(torch.zeros(2, 2, 3, 5), branch(params, "vh"), branch(params, "hv"))


@pytest.mark.aot
def test_traffic_is_that_of_the_docstring() -> None:
    """Passes over the maps, with parameters and partial sums at most a tenth beside them."""
    shape = (448, 128, 16, 16)
    maps = 2 * 448 * 128 * 256
    for training, forward, backward in ((True, 3, 5), (False, 2, 4)):
        launches = kernels.launches(shape, torch.bfloat16, "cuda", groups=7, training=training)
        for phase, passes in (("forward", forward), ("backward", backward)):
            moved = sum(launch.bytes for launch in launches if launch.phase == phase)
            assert passes * maps <= moved <= 1.1 * passes * maps, (training, phase, moved / maps)


@pytest.mark.aot
@pytest.mark.parametrize(("shape", "groups"), [((1, 2, 1, 1), 1), ((7, 4, 5, 12), 7)])
@pytest.mark.parametrize("wide", [False, True])
def test_extreme_sizes_compile(
    shape: tuple[int, int, int, int], groups: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and strides of 1 become constants in a real launch, and large maps have int64 offsets."""
    if wide:
        decide(monkeypatch, common, "INT32_LIMIT", 1)
    for launch in kernels.launches(shape, torch.bfloat16, "cuda", groups=groups):
        resources.compile_launch(launch, resources.TARGETS["sm_90"])
