"""The fused FCC held to the reference: in Triton's interpreter, and natively where there is a GPU."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from harness.compare import Params, assert_runs_equal, assert_within_budget, plain_fcc, run, seeded
from harness.kernel_checks import RUNS, cpu, decide, double, each_run, first_runs
from torch import Tensor

pytest.importorskip("triton")

from harness.kernel_fcc import branch, by_group, fused, parameters, problem, statistics
from mol_fast.kernels import common, fcc_shared, tiles
from mol_fast.kernels import fcc as kernels

from mol_fast import reference as ref

# N, C, H, W, G: asymmetric, several tiles of maps with a ragged end, more than one block of a map, single rows.
CASES = [(4, 6, 5, 12, 2), (1, 4, 7, 3, 1), (3, 2, 16, 16, 1), (11, 2, 4, 5, 1), (2, 2, 33, 20, 2), (4, 2, 1, 20, 2)]


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


def ragged(device: str, dtype: torch.dtype, training: bool) -> dict[str, Tensor]:
    return problem(15, 2, 5, 18, 5, training)(dtype, device).run()


pinned = cache(ragged)
"""The same with the pinned tiles, run once."""


@pytest.mark.parametrize("change", [{"BG": 2, "BP": 2}, {"BG": 4, "BP": 1}, {"BG": 16, "BP": 16}])
@pytest.mark.parametrize("training", [True, False])
@first_runs
def test_groups_and_parts_at_once_do_not_matter(
    device: str, dtype: torch.dtype, training: bool, change: dict[str, int]
) -> None:
    """Fewer than there are, with a rest, and more: the gradients are the same up to the order of the sums."""
    expected = pinned(device, dtype, training)
    with tiles.override({"fcc_parameters_kernel": change}):
        assert_runs_equal(ragged(device, dtype, training), expected, 1e-5)


def test_only_scattered_maps_are_copied() -> None:
    """Maps whose rows or columns are runs are read where they are, those of channels last, or of a slice, are not."""
    x = seeded(3, 4, 5, 6)
    for kept in (x, x.mT, x[::2, 1:], x[:, :, :, 0:1], x[:1].expand(3, 4, 5, 6), x.sum().expand(3, 4, 5, 6)):
        assert fcc_shared.dense(kept) is kept
    for copied in (x.contiguous(memory_format=torch.channels_last), torch.stack([x, x], dim=-1)[..., 0]):
        dense = fcc_shared.dense(copied)
        assert dense.is_contiguous()
        assert torch.equal(dense, x)


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
def test_statistics_of_no_maps(device: str, dtype: torch.dtype) -> None:
    params = parameters(4, 3, 5, dtype, device)
    x = torch.zeros(0, 4, 3, 5, dtype=dtype, device=device)
    _, mean, var = kernels.fcc(x, branch(params, "vh"), branch(params, "hv"), groups=3)
    assert torch.equal(mean, torch.zeros_like(mean))
    assert torch.equal(var, torch.ones_like(var))


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
