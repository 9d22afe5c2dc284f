"""The layers in half precision, under autocast, and where numbers are large, many or whole."""

import copy
from collections.abc import Callable

import pytest
import torch
from harness.compare import (
    as_layer,
    assert_within_budget,
    fcc_branch,
    neighbour_gap,
    plain_ccc,
    plain_fcc,
    randomise,
    run,
    seeded,
    state,
)
from harness.f5c import HALF, VARIANTS
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast import CCC, F5C, FCC, functional
from mol_fast import reference as ref


@pytest.mark.parametrize("training", [True, False])
def test_a_large_mean_costs_no_accuracy(training: bool) -> None:
    """Maps are centred before they are multiplied, so that no large numbers cancel."""
    module = FCC(6, (5, 12)).train(training)
    randomise(module)
    x, g = seeded(8, 6, 5, 12) + 30, seeded(8, 6, 5, 12, seed=99)
    if not training:
        module.vh.norm.running_mean.fill_(30)
        module.hv.norm.running_mean.fill_(30)
    exact = run(lambda p, x: ref.fcc(p, x, training), state(module, torch.float64), x.double(), g.double())
    plain = run(lambda p, x: plain_fcc(p, x, training), state(module), x, g)
    assert_within_budget(run(as_layer(module), state(module), x, g), plain, exact, torch.float32)


def test_statistics_of_many_maps_are_exact() -> None:
    """A sum of half a million squares, one after the other, would lose two digits."""
    module = FCC(2, (16, 16))
    x = seeded(2048, 2, 16, 16)
    mean, var = functional.fcc(x, fcc_branch(module.vh), fcc_branch(module.hv))[1:]
    positions = torch.stack([module.vh.pos1[0][:, None].expand(16, 16), module.hv.pos1[0].expand(16, 16)])
    exact = x.double() + positions.double()
    assert_close(var[0].double(), exact.var(dim=(0, 2, 3), unbiased=False), rtol=3e-7, atol=0)
    assert_close(mean[0].double(), exact.mean(dim=(0, 2, 3)), rtol=0, atol=3e-7)


def under_autocast(module: nn.Module, dtype: torch.dtype) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    def layer(params: dict[str, Tensor], x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype):
            return torch.func.functional_call(module, params, (x,))

    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", HALF)
def test_fcc_in_half_precision(dtype: torch.dtype, autocast: bool, training: bool) -> None:
    module = FCC(6, (5, 12)).train(training)
    randomise(module)
    if not autocast:
        module = module.to(dtype)
    x = seeded(8, 6, 5, 12)
    g = seeded(8, 6, 5, 12, seed=99, dtype=dtype)
    if not autocast:
        x = x.to(dtype)
    exact = run(lambda p, x: ref.fcc(p, x, training), state(module, torch.float64), x.double(), g.double())
    plain = run(lambda p, x: plain_fcc(p, x, training), state(module, dtype), x.to(dtype), g)
    actual = run(under_autocast(module, dtype) if autocast else as_layer(module), state(module), x, g)
    assert actual["y"].dtype == dtype
    assert actual["vh.kernel1"].dtype == (torch.float32 if autocast else dtype)
    assert_within_budget(actual, plain, exact, dtype)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("variant", VARIANTS)
def test_ccc_in_half_precision(variant: str, dtype: torch.dtype, autocast: bool) -> None:
    module = CCC(8, (3, 5), 3, variant)
    randomise(module)
    module = module if autocast else module.to(dtype)
    x = next(x for s in range(100) if neighbour_gap(x := seeded(4, 8, 3, 5, seed=s, dtype=dtype), 3, variant) > 1e-5)
    g = seeded(*x.shape, seed=99, dtype=dtype)
    ccc = ref.ccc_paper if variant == "paper" else ref.ccc_official
    exact = run(lambda p, x: ccc(p, x, 3), state(module, torch.float64), x.double(), g.double())
    plain = run(lambda p, x: plain_ccc(p, x, 3, variant), state(module, dtype), x, g)
    x = x.float() if autocast else x
    actual = run(under_autocast(module, dtype) if autocast else as_layer(module), state(module), x, g)
    assert actual["y"].dtype == dtype
    assert_within_budget(actual, plain, exact, dtype)


@pytest.mark.parametrize("dtype", HALF)
def test_statistics_under_autocast_are_those_of_the_cast_input(dtype: torch.dtype) -> None:
    """Autocast rounds the maps, not the running statistics."""
    module = FCC(6, (5, 12))
    other = copy.deepcopy(module).double()
    x = seeded(6, 6, 5, 12)
    with torch.autocast("cpu", dtype):
        module(x, groups=3)
    other(x.to(dtype).double(), groups=3)
    for (name, actual), exact in zip(module.named_buffers(), other.buffers(), strict=True):
        assert_close(actual.double(), exact.double(), rtol=1e-6, atol=1e-7, msg=name)


def test_autocast_leaves_float64_alone() -> None:
    module = F5C(4, 3, 2).double()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(seeded(1, 4, 3, 3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_integers_are_exact(dtype: torch.dtype) -> None:
    """Numbers small enough to be whole in every dtype come out to the last bit."""
    generator = torch.Generator().manual_seed(0)

    def whole(*shape: int, high: int = 1) -> Tensor:
        return torch.randint(-high, high + 1, shape, generator=generator).to(dtype)

    x = whole(3, 4, 2, 3, high=2)
    vh, hv = (
        functional.FCCBranch(whole(2, a), whole(2, a), whole(2), whole(2, b), whole(2, b), whole(2), whole(2), whole(2))
        for a, b in ((2, 3), (3, 2))
    )
    mean, var = whole(4).float(), torch.ones(4)
    names = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2", "norm.weight", "norm.bias")
    params = {f"{b}.{n}": p.double() for b, t in (("vh", vh), ("hv", hv)) for n, p in zip(names, t, strict=True)}
    for b, half in (("vh", slice(0, 2)), ("hv", slice(2, 4))):
        # The reference adds 1e-5 to the variance; the operator is called with eps = 0.
        params |= {f"{b}.norm.running_mean": mean[half].double(), f"{b}.norm.running_var": var[half].double() - 1e-5}
    y, _, _ = functional.fcc(x, vh, hv, mean=mean, var=var, eps=0.0)
    assert torch.equal(y.double(), ref.fcc(params, x.double(), False).round())
    weights = {"node.weight": whole(6, 6), "node.bias": whole(6), "edge.weight": whole(6, 6), "edge.bias": whole(6)}
    weights |= {"mix.weight": whole(4, 4), "mix.bias": whole(4)}
    y = functional.ccc(x, *weights.values(), k=4)
    weights = {name: value.double() for name, value in weights.items()}
    weights["mix.weight"] = weights["mix.weight"][:, :, None, None]
    assert torch.equal(y.double(), ref.ccc_paper(weights, x.double(), 4))
