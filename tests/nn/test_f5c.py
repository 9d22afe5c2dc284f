"""The layers held to the reference: results, gradients, statistics, precision, layouts, PyTorch's transformations."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness.compare import (
    as_layer,
    assert_runs_equal,
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast import CCC, F5C, FCC, functional
from mol_fast import reference as ref
from mol_fast.ops.ccc import neighbours
from mol_fast.ops.fcc import circulant

VARIANTS = ("paper", "official")
ALL = -1  # every node is a neighbour
CASES = [  # channels, size, maps, k
    (6, (5, 12), 3, 1),
    (6, (5, 12), 3, 2),
    (6, (5, 12), 1, ALL),
    (4, (1, 7), 3, 2),
    (4, (7, 1), 3, ALL),
    (2, (3, 4), 1, 1),
    (2, (1, 1), 5, 1),  # of 3 maps one gradient all but cancels, and its relative error is luck
]


def block(channels: int, size: tuple[int, int], k: int, variant: str, training: bool = True) -> F5C:
    nodes = channels if variant == "paper" else size[0] * size[1]
    module = F5C(channels, size, nodes if k == ALL else k, variant)
    randomise(module)
    return module.train(training)


def clear_input(module: F5C, n: int, training: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps whose neighbours no rounding of float32 can change."""
    height, width = module.fcc.size
    for seed in range(100):
        x = seeded(n, module.fcc.channels, height, width, seed=seed, dtype=dtype)
        features = ref.fcc(ref.sub(state(module, torch.float64), "fcc"), x.double(), training)
        if neighbour_gap(features, module.ccc.neighbors, module.ccc.variant) > 1e-5:
            return x
    raise AssertionError("no input with clear neighbours")


def reference_block(module: F5C) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    k, variant = module.ccc.neighbors, module.ccc.variant
    return lambda params, x: ref.f5c(params, x, k, variant, module.training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("channels", "size", "n", "k"), CASES)
def test_f5c_is_the_reference(
    channels: int, size: tuple[int, int], n: int, k: int, variant: str, training: bool
) -> None:
    module = block(channels, size, k, variant, training)
    x = clear_input(module, n, training)
    g = seeded(*x.shape, seed=99)
    exact = run(reference_block(module), state(module, torch.float64), x.double(), g.double())
    double = run(as_layer(module), state(module, torch.float64), x.double(), g.double())
    assert_runs_equal(double, exact, 1e-11)
    single = run(reference_block(module), state(module), x, g)
    assert_within_budget(run(as_layer(module), state(module), x, g), single, exact, torch.float32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_compose_the_block(variant: str) -> None:
    module = block(6, (3, 4), 2, variant, training=False)
    x = seeded(2, 6, 3, 4)
    params = state(module)
    middle = module.fcc(x)
    assert_close(middle, ref.fcc(ref.sub(params, "fcc"), x, False))
    ccc = ref.ccc_paper if variant == "paper" else ref.ccc_official
    assert_close(module.ccc(middle), ccc(ref.sub(params, "ccc"), middle, 2))
    assert_close(module(x), module.ccc(middle))


def test_starts_as_the_identity() -> None:
    x = seeded(2, 6, 3, 4)
    assert torch.equal(F5C(6, (3, 4), 2)(x), x)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_are_successive_calls(variant: str, groups: int) -> None:
    """One batch of frames gives what the reference gives frame by frame, statistics of every frame its own."""
    module = block(6, (3, 4), 2, variant).double()
    frames = seeded(2, groups, 6, 3, 4, dtype=torch.float64) * torch.arange(1, groups + 1)[:, None, None, None]

    def calls(params: dict[str, Tensor], x: Tensor) -> Tensor:
        x = x.unflatten(0, (2, groups))
        return torch.stack([reference_block(module)(params, x[:, t]) for t in range(groups)], dim=1).flatten(0, 1)

    x, g = frames.flatten(0, 1), seeded(2 * groups, 6, 3, 4, seed=99, dtype=torch.float64)
    exact = run(calls, state(module), x, g)
    assert_runs_equal(run(as_layer(module, groups=groups), state(module), x, g), exact, 1e-11)
    assert int(exact["fcc.vh.norm.num_batches_tracked"]) == groups


def test_evaluation_ignores_groups() -> None:
    module = block(6, (3, 4), 2, "paper", training=False)
    x = seeded(6, 6, 3, 4)
    before = state(module)
    assert torch.equal(module(x, groups=3), module(x))
    assert_close(dict(module.named_buffers()), {n: before[n] for n, _ in module.named_buffers()}, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_maps(variant: str, training: bool) -> None:
    """An empty batch gives an empty output, zero gradients, and leaves the running statistics alone."""
    module = block(6, (5, 12), 2, variant, training)
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    x = torch.zeros(0, 6, 5, 12, requires_grad=True)
    y = module(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())
    assert_close(dict(module.named_buffers()), buffers, rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_value_per_channel(variant: str) -> None:
    """Training on a single 1x1 map: what batch normalisation gives is its bias, and nothing is NaN."""
    module = block(4, (1, 1), 1, variant)
    results = run(as_layer(module), state(module), seeded(1, 4, 1, 1), seeded(1, 4, 1, 1))
    assert all(torch.isfinite(value.double()).all() for value in results.values())


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


def test_second_derivatives_of_fcc() -> None:
    module = FCC(4, (2, 3)).double()
    randomise(module)
    params = list(module.parameters())
    x = seeded(4, 4, 2, 3, dtype=torch.float64).requires_grad_()

    def layer(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip((name for name, _ in module.named_parameters()), values, strict=True))
        return torch.func.functional_call(module, named, (x,), {"groups": 2})

    assert torch.autograd.gradgradcheck(layer, (x, *params))


HALF = (torch.bfloat16, torch.float16)


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


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "columns first": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "maps last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every second": lambda x: x.repeat_interleave(2, dim=0).repeat_interleave(2, dim=3)[::2, :, :, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_layout(variant: str, layout: str) -> None:
    module = block(6, (3, 4), 2, variant).double()
    x, g = seeded(4, 6, 3, 4, dtype=torch.float64), seeded(4, 6, 3, 4, seed=99, dtype=torch.float64)
    expected = run(as_layer(module, groups=2), state(module), x, g)
    change = LAYOUTS[layout]
    assert change(x).stride() != x.stride()
    actual = run(lambda p, x: as_layer(module, groups=2)(p, change(x)), state(module), x, change(g))
    assert_runs_equal(actual, expected, 1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_expanded_gradient(variant: str) -> None:
    module = block(6, (3, 4), 2, variant).double()
    x = seeded(2, 6, 3, 4, dtype=torch.float64)
    expected = run(as_layer(module), state(module), x, torch.ones_like(x))
    actual = run(as_layer(module), state(module), x, torch.ones((), dtype=x.dtype).expand(x.shape))
    assert_runs_equal(actual, expected, 1e-13)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("variant", "k"), [("paper", 2), ("official", 3)])
def test_gradcheck(variant: str, k: int, training: bool) -> None:
    module = block(4, (2, 3), k, variant, training).double()
    params = state(module)
    names = [name for name, value in params.items() if value.requires_grad]
    x = seeded(4, 4, 2, 3, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return as_layer(module, groups=2)({**params, **dict(zip(names, values, strict=True))}, x)

    assert torch.autograd.gradcheck(function, (x, *(params[name] for name in names)), fast_mode=True)


def test_double_backward() -> None:
    module = block(4, (2, 3), 2, "paper").double()
    x = seeded(3, 4, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(module, (x,), fast_mode=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_deepcopy_is_independent(variant: str) -> None:
    module = block(4, (2, 3), 2, variant)
    twin = copy.deepcopy(module)
    x = seeded(2, 4, 2, 3)
    module(x).sum().backward()
    assert all(p.grad is None for p in twin.parameters())
    assert int(twin.get_buffer("fcc.vh.norm.num_batches_tracked")) == 0
    assert_close(twin.train()(x), module(x))


def test_state_dict_names() -> None:
    branch = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2")
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"fcc.{b}.{n}" for b in ("vh", "hv") for n in (*branch, *(f"norm.{m}" for m in norm))}
    expected |= {f"ccc.{m}.{n}" for m in ("node", "edge") for n in ("weight", "bias")}
    assert set(F5C(4, (2, 3), 2, variant="official").state_dict()) == expected
    shapes = {name: tuple(value.shape) for name, value in F5C(4, (2, 3), 2).state_dict().items()}
    assert set(shapes) == expected | {"ccc.mix.weight", "ccc.mix.bias"}
    assert shapes["fcc.vh.kernel1"] == shapes["fcc.hv.pos2"] == (2, 2)
    assert shapes["fcc.hv.kernel1"] == shapes["fcc.vh.pos2"] == (2, 3)
    assert shapes["ccc.node.weight"] == (6, 6)
    assert shapes["ccc.mix.weight"] == (4, 4, 1, 1)


def test_weights_travel_through_safetensors(tmp_path: Path) -> None:
    module = block(4, (2, 3), 2, "paper")
    save_file(module.state_dict(), tmp_path / "block.safetensors")
    twin = F5C(4, (2, 3), 2)
    twin.load_state_dict(load_file(tmp_path / "block.safetensors"))
    x = seeded(2, 4, 2, 3)
    assert torch.equal(twin.eval()(x), module.eval()(x))


def test_repr_says_what_was_asked_for() -> None:
    text = repr(F5C(4, (2, 3), 2, variant="official", backend="torch"))
    for part in ("size=(2, 3)", "neighbors=2", "variant='official'", "backend='torch'"):
        assert part in text


def test_shapes_without_memory() -> None:
    """On the meta device the block tells its output's shape."""
    module = F5C(8, (4, 6), 3).to("meta")
    assert module(torch.empty(5, 8, 4, 6, device="meta")).shape == (5, 8, 4, 6)


def test_circulant() -> None:
    kernel = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(circulant(kernel)[0], torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_neighbours_are_the_most_similar(dtype: torch.dtype) -> None:
    """By similarity, the most similar first, after the node itself; near-ties may be taken in any order."""
    nodes = seeded(3, 20, 7, dtype=dtype)
    index = torch.cat([torch.arange(20)[:, None].expand(3, -1, -1), neighbours(nodes, 5)], dim=2)
    unit = torch.nn.functional.normalize(nodes.double(), dim=2)
    similarity = unit @ unit.transpose(1, 2)
    taken = similarity.gather(2, index)
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert_close(taken, similarity.topk(5, dim=2).values, atol=tolerance, rtol=0)
    assert (taken.diff(dim=2) <= tolerance).all()
    assert all(len(set(row.tolist())) == 5 for row in index.flatten(0, 1))


def test_a_node_of_zeros_is_like_none() -> None:
    """Less similar than what points the same way, more than what points the other way."""
    nodes = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [2.0, 0.1]]])
    assert neighbours(nodes, 3)[0, [0, 1, 3]].tolist() == [[3, 2], [2, 3], [0, 2]]


def test_neighbours_of_equal_nodes() -> None:
    """Among equal nodes any may be taken: the result is the same, and the gradient goes once to one of them."""
    module = CCC(6, (2, 3), 3).double()
    randomise(module)
    x, g = seeded(1, 1, 2, 3, dtype=torch.float64).expand(2, 6, 2, 3), seeded(2, 6, 2, 3, seed=99, dtype=torch.float64)
    alone = run(lambda p, x: ref.ccc_paper(p, x, 1), state(module), x, g)
    actual = run(as_layer(module), state(module), x, g)
    for results in (alone, actual):
        results["x"] = results["x"].sum(dim=1)
    assert_runs_equal(actual, alone, 1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dead_nodes_have_finite_results(variant: str) -> None:
    module = block(4, (2, 3), 2, variant)
    zero = torch.zeros(2, 4, 2, 3)
    results = run(as_layer(module.ccc), state(module.ccc), zero, torch.ones_like(zero))
    assert all(torch.isfinite(value).all() for value in results.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_nan_stays_in_its_map(variant: str, value: float) -> None:
    module = block(4, (2, 3), 2, variant, training=False)
    x = seeded(3, 4, 2, 3)
    clean = module(x)
    x[1, 2, 1, 1] = value
    y = module(x)
    assert torch.isnan(y[1]).any()
    assert torch.equal(y[[0, 2]], clean[[0, 2]])


def fcc_arguments() -> dict[str, object]:
    module = FCC(4, (2, 3))
    return {"x": seeded(4, 4, 2, 3), "vh": fcc_branch(module.vh), "hv": fcc_branch(module.hv)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": seeded(4, 4, 2)}, r"x must have 4 dimensions"),
        ({"x": torch.zeros(4, 4, 2, 3, dtype=torch.int64)}, r"x must be floating point, got torch\.int64"),
        ({"x": seeded(4, 0, 2, 3)}, r"x must have at least one channel"),
        ({"x": seeded(4, 5, 2, 3)}, r"x must have an even number of channels, got 5"),
        ({"x": seeded(4, 4, 3, 3)}, r"vh\.kernel1 must have shape \(2, 3\)"),
        ({"x": seeded(4, 6, 2, 3)}, r"vh\.kernel1 must have shape \(3, 2\)"),
        ({"x": torch.empty(4, 4, 2, 3, device="meta")}, r"vh\.kernel1 is on cpu but x is on meta"),
        ({"groups": 3}, r"groups must divide the number of maps"),
        ({"groups": 0}, r"groups must divide the number of maps"),
        ({"mean": torch.zeros(4)}, r"mean and var must be given together"),
        ({"mean": torch.zeros(3), "var": torch.ones(4)}, r"mean must be \(4,\)"),
        ({"mean": torch.zeros(4), "var": torch.ones(3, 4)}, r"var must be \(4,\)"),
        ({"mean": torch.zeros(4), "var": torch.ones(4, device="meta")}, r"var is on meta"),
        ({"backend": "cuda"}, r"backend must be one of auto, torch, triton, got 'cuda'"),
    ],
)
def test_fcc_names_the_wrong_argument(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.fcc(**{**fcc_arguments(), **change})  # type: ignore[arg-type]


def test_fcc_statistics_of_any_form() -> None:
    """One mean for all groups and a variance per group, not contiguous: what the repeated statistics give."""
    arguments = fcc_arguments()
    mean, var = seeded(4), seeded(4, 2, seed=1).square().T + 0.5
    y, used_mean, used_var = functional.fcc(**arguments, mean=mean, var=var, groups=2)  # type: ignore[arg-type]
    both = functional.fcc(**arguments, mean=mean.expand(2, 4).clone(), var=var.clone(), groups=2)  # type: ignore[arg-type]
    assert torch.equal(y, both[0])
    assert torch.equal(used_mean, both[1])
    assert torch.equal(used_var, both[2])


def ccc_arguments() -> dict[str, object]:
    module = CCC(4, (2, 3), 2)
    names = ("node_weight", "node_bias", "edge_weight", "edge_bias", "mix_weight", "mix_bias")
    values = (p.detach().squeeze() for p in module.parameters())
    return {"x": seeded(2, 4, 2, 3), **dict(zip(names, values, strict=True)), "k": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 4, 2, 3, dtype=torch.uint8)}, r"x must be floating point"),
        ({"k": 5}, r"k must be from 1 to the number of nodes, 4, got 5"),
        ({"k": 0}, r"k must be from 1"),
        ({"k": 7, "variant": "official"}, r"number of nodes, 6, got 7"),
        ({"variant": "Paper"}, r"variant must be one of paper, official, got 'Paper'"),
        ({"backend": "fast"}, r"backend must be one of"),
        ({"node_weight": torch.zeros(4, 4)}, r"node_weight must have shape \(6, 6\)"),
        ({"edge_bias": torch.zeros(4)}, r"edge_bias must have shape \(6,\)"),
        ({"mix_weight": torch.zeros(4, 4, 1, 1)}, r"mix_weight must have shape \(4, 4\)"),
        ({"mix_bias": None}, r"mix_weight and mix_bias must be given"),
        ({"edge_weight": torch.zeros(6, 6, device="meta")}, r"edge_weight is on meta but x is on cpu"),
    ],
)
def test_ccc_names_the_wrong_argument(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.ccc(**{**ccc_arguments(), **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: F5C(5, 4), r"channels must be even and at least 2, got 5"),
        (lambda: F5C(0, 4), r"channels must be even and at least 2, got 0"),
        (lambda: F5C(4, 0), r"size must be a positive number"),
        (lambda: F5C(4, (3, -1)), r"size must be a positive number"),
        (
            lambda: F5C(4, (3, 4, 5)),  # type: ignore[arg-type]
            r"size must be",
        ),
        (lambda: F5C(4, 4, neighbors=5), r"neighbors must be from 1 to the number of nodes, 4, got 5"),
        (lambda: F5C(4, 4, neighbors=0), r"neighbors must be from 1"),
        (lambda: F5C(4, 2, neighbors=5, variant="official"), r"number of nodes, 4, got 5"),
        (lambda: F5C(4, 4, variant="published"), r"variant must be one of"),
        (lambda: F5C(4, 4, backend="cuda"), r"backend must be one of"),
    ],
)
def test_constructors_name_the_wrong_argument(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("layer", [FCC(4, (2, 3)), CCC(4, (2, 3), 2), F5C(4, (2, 3), 2)])
@pytest.mark.parametrize("shape", [(4, 2, 3), (1, 4, 3, 2), (1, 6, 2, 3)])
def test_layers_name_the_shape_they_need(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(N, 4, 2, 3\), got"):
        layer(torch.zeros(shape))


def test_triton_is_not_replaced_silently() -> None:
    """A backend asked for by name that cannot run raises."""
    module = F5C(4, (2, 3), 2, backend="triton")
    with pytest.raises(RuntimeError, match=r'backend="triton"'):
        module.fcc(seeded(1, 4, 2, 3))
    with pytest.raises(RuntimeError, match=r'backend="triton"'):
        module.ccc(seeded(1, 4, 2, 3))
    with pytest.raises(RuntimeError, match=r'"official"'):
        CCC(4, (2, 3), 2, variant="official", backend="triton")(seeded(1, 4, 2, 3))
