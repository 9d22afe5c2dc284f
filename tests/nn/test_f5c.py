"""The layers held to the reference: results, gradients, statistics, precision, layouts, PyTorch's transformations."""

import copy
from pathlib import Path

import pytest
import torch
from harness.compare import as_layer, assert_runs_equal, assert_within_budget, run, seeded, state
from harness.f5c import ALL, VARIANTS, block, clear_input, reference_block
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from mol_fast import F5C
from mol_fast import reference as ref

CASES = [  # channels, size, maps, k
    (6, (5, 12), 3, 1),
    (6, (5, 12), 3, 2),
    (6, (5, 12), 1, ALL),
    (4, (1, 7), 3, 2),
    (4, (7, 1), 3, ALL),
    (2, (3, 4), 1, 1),
    (2, (1, 1), 5, 1),  # of 3 maps one gradient all but cancels, and its relative error is luck
]


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
