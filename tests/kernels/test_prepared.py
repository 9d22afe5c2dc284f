"""Launches that were prepared are those of the tensors at hand: no layout, dtype, device or address finds another's."""

import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.compare import fcc_branch, seeded
from torch import Tensor
from torch._subclasses import FakeTensor

pytest.importorskip("triton")

from mol_fast.kernels import ccc, common, fcc, prepared, tiles
from triton import knobs
from triton.runtime import driver

from mol_fast import F5C, functional

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import no_launch

CHANNELS, HEIGHT, WIDTH, NEIGHBOURS = 4, 2, 4, 2


def maps(n: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return seeded(n, CHANNELS, HEIGHT, WIDTH, dtype=dtype)


def block(dtype: torch.dtype = torch.float32) -> F5C:
    torch.manual_seed(0)
    made = F5C(CHANNELS, (HEIGHT, WIDTH), NEIGHBOURS, backend="triton")
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.to(dtype)


def moved(x: Tensor) -> Tensor:
    """The same maps one element further, so that no address is divisible by 16."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


VARIANTS: dict[str, Callable[[], Tensor]] = {
    "plain": maps,
    "channels last": lambda: maps().contiguous(memory_format=torch.channels_last),
    "transposed": lambda: maps().mT.contiguous().mT,
    "expanded": lambda: maps(1).expand(2, -1, -1, -1),
    "not aligned": lambda: moved(maps()),
    "more maps": lambda: maps(4),
    "no maps": lambda: maps(0),
    "half precision": lambda: maps(dtype=torch.float16),
    "double precision": lambda: maps(dtype=torch.float64),
}


def run(layer: F5C, x: Tensor, groups: int = 1) -> list[Tensor]:
    """Output, gradients and buffers of a pass in training."""
    layer = layer.train()
    layer.zero_grad()
    leaf = x.detach().requires_grad_()
    y = layer(leaf, groups)
    y.backward(torch.ones_like(y).cumsum(1))
    assert leaf.grad is not None
    found = [y.detach(), leaf.grad, *(parameter.grad for parameter in layer.parameters())]
    return [value.clone() for value in (*found, *layer.buffers())]  # type: ignore[union-attr]


@pytest.mark.interpreter
def test_layouts_do_not_meet() -> None:
    """Every variant, on the plans of those before it, gives what it gives by itself."""
    alone = {}
    for name, make in VARIANTS.items():
        prepared.plan.cache_clear()
        alone[name] = run(block(make().dtype), make())
    for name in reversed(VARIANTS):
        found = run(block(VARIANTS[name]().dtype), VARIANTS[name]())
        assert all(torch.equal(a, b) for a, b in zip(found, alone[name], strict=True)), name
    assert prepared.plan.cache_info().hits > 0


@pytest.mark.interpreter
def test_other_arguments_are_not_met_either() -> None:
    """Groups, evaluation, k, the precision of float32 products and tiles have plans of their own."""
    layer, x = block(), maps(4)

    def misses(change: Callable[[], Any]) -> int:
        before = prepared.plan.cache_info().misses
        change()
        return prepared.plan.cache_info().misses - before

    assert misses(lambda: run(layer, x)) == 2
    assert misses(lambda: run(layer, x)) == 0
    assert misses(lambda: run(layer, x, groups=2)) == 2
    assert misses(lambda: layer.eval()(x)) == 1  # CCC still saves for the gradients of its parameters
    layer.ccc.neighbors = 1
    assert misses(lambda: layer.eval()(x)) == 1
    with torch.no_grad():
        assert misses(lambda: layer.eval()(x)) == 1
        with tiles.override({"ccc_edges_kernel": {"num_warps": 2}}):
            assert misses(lambda: layer.eval()(x)) == 1


@pytest.fixture(params=["torch.set_float32_matmul_precision", "cuda.matmul.fp32_precision", "fp32_precision"])
def allowed(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Allows TF32 in matrix products, in each of PyTorch's ways."""
    products = torch.backends.cuda.matmul
    before, wholly = products.fp32_precision, torch.backends.fp32_precision
    yield {
        "torch.set_float32_matmul_precision": lambda: torch.set_float32_matmul_precision("high"),
        "cuda.matmul.fp32_precision": lambda: setattr(products, "fp32_precision", "tf32"),
        "fp32_precision": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    }[request.param]
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision, products.fp32_precision = wholly, before


@pytest.mark.interpreter
def test_the_precision_of_products_is_met_however_it_was_set(allowed: Callable[[], None]) -> None:
    layer, x = block().eval(), maps()
    with torch.no_grad():
        layer(x)
        assert common.precision(torch.float32, "cuda") == "tf32x3"
        allowed()
        before = prepared.plan.cache_info().misses
        layer(x)
    assert prepared.plan.cache_info().misses == before + 1
    assert common.precision(torch.float32, "cuda") == "tf32"
    assert common.precision(torch.float32, "cuda", exact=True) == "tf32x3"


def fakes() -> list[Any]:
    """Tensors without memory, as plans are made from."""
    gc.collect()
    return [value for value in gc.get_objects() if isinstance(value, FakeTensor)]


@pytest.mark.interpreter
def test_plans_are_bounded_and_hold_no_tensor() -> None:
    prepared.plan.cache_clear()
    before = len(fakes())
    x = maps()
    block()(x)
    held = weakref.ref(x)
    del x
    gc.collect()
    assert held() is None
    assert len(fakes()) == before
    assert prepared.plan.cache_info().maxsize == prepared.PLANS


def free(value: Tensor) -> None:
    """Let the memory of a tensor go, as sharded training does between uses."""
    value.untyped_storage().resize_(0)


@pytest.mark.interpreter
@pytest.mark.parametrize("name", ["x", "vh.kernel1", "hv.bias", "edge_weight"])
def test_a_freed_tensor_is_named(name: str) -> None:
    layer, x = block(), maps()
    layer(x)
    half, _, field = name.partition(".")
    value = {"x": x, "edge_weight": layer.ccc.edge.weight}.get(name)
    if value is None:
        value = getattr(fcc_branch(getattr(layer.fcc, half)), field)
    free(value.data)
    with pytest.raises(RuntimeError, match=f"^{name} has no memory: its storage was freed"):
        layer(x)


@pytest.mark.interpreter
def test_a_part_of_freed_memory_is_named() -> None:
    """Its address is then its offset, not zero: parts of a flat parameter, as sharded training makes them."""
    layer, whole = block(), maps(3)
    x = whole[1:]
    layer(x)
    free(whole)
    assert x.data_ptr() != 0
    with pytest.raises(RuntimeError, match=r"^x has no memory: its storage was freed"):
        layer(x)


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"mix_bias": torch.zeros(CHANNELS, device="meta")}, "mix_bias is on meta but x is on cpu"),
        (lambda: {"mix_bias": torch.zeros(CHANNELS + 1)}, r"mix_bias must have shape \(4,\)"),
        (lambda: {"mix_bias": torch.zeros(CHANNELS, dtype=torch.int32)}, "mix_bias must be floating point"),
        (lambda: {"x": maps().to(torch.int32)}, "x must be floating point"),
        (lambda: {"x": torch.zeros(2, CHANNELS, HEIGHT, WIDTH + 1)}, r"node_weight must have shape \(10, 10\)"),
        (lambda: {"k": CHANNELS + 1}, "k must be from 1"),
    ],
)
def test_wrong_arguments_are_named_after_right_ones(change: Callable[[], dict[str, Any]], message: str) -> None:
    layer = block().ccc
    assert layer.mix is not None
    right = {
        "x": maps(),
        "node_weight": layer.node.weight,
        "node_bias": layer.node.bias,
        "edge_weight": layer.edge.weight,
        "edge_bias": layer.edge.bias,
        "mix_weight": layer.mix.weight.flatten(1),
        "mix_bias": layer.mix.bias,
        "k": NEIGHBOURS,
        "backend": "triton",
    }
    for _ in range(2):
        functional.ccc(**right)
        with pytest.raises(ValueError, match=f"^{message}"):
            functional.ccc(**{**right, **change()})


@pytest.mark.interpreter
def test_a_recipe_must_pass_whole_tensors() -> None:
    """A launch on a part of a tensor would start elsewhere when it is replayed."""

    def build(x: Tensor) -> prepared.Built:
        index = torch.empty(1, NEIGHBOURS, CHANNELS, dtype=torch.int16)
        return [index], [], [ccc.neighbours_launch(x[1:], index, "cuda")]

    with pytest.raises(RuntimeError, match="p_x of ccc_neighbours_kernel must begin where a tensor of the recipe does"):
        prepared.run(prepared.Recipe(("x",), build, 1), (maps(),))


def neighbours(x: Tensor) -> prepared.Built:
    """CCC's neighbours alone."""
    index = torch.empty(x.shape[0], NEIGHBOURS, CHANNELS, dtype=torch.int16)
    return [index], [], [ccc.neighbours_launch(x, index, "cuda")]


class Device:
    """The launches that reach the device, each held to what its kernel was compiled for."""

    def __init__(self) -> None:
        self.launches: list[tuple[str, Any, dict[str, Any]]] = []
        self.abouts: list[Any] = []

    def __call__(
        self, source: Any, grid: tuple[int, int, int], about: Any, enter: Any, leave: Any, values: list[Any]
    ) -> None:
        for place, (name, kind) in enumerate(source.signature.items()):
            value = values[place].data_ptr() if isinstance(values[place], Tensor) else values[place]
            if kind == "constexpr":
                assert value == source.constants[(place,)], name
            elif kind.startswith("*") and value is None:
                continue
            elif ["tt.divisibility", 16] in source.attrs.get((place,), []):
                assert value % 16 == 0, f"{name} of {source.name} is not divisible by 16, which its code relies on"
            else:
                assert value != 1, name
        named = no_launch.arguments_of(source, values)
        self.launches.append((source.name, grid, {name: v for name, v in named.items() if not name.startswith("p_")}))
        self.abouts.append(about)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device of Triton's that launches nothing, and takes tensors of the CPU."""
    made = Device()
    monkeypatch.setattr(driver, "_active", no_launch.NoLaunch(made))
    no_launch.takes_cpu_tensors(monkeypatch.setattr, monkeypatch.setenv)
    return made


def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which every launch through Triton's own binder adds its kernel."""
    found: list[str] = []
    start = common.Launch.start

    def counted(self: common.Launch, *values: Any) -> Any:
        found.append(self.name)
        return start(self, *values)

    monkeypatch.setattr(common.Launch, "start", counted)
    return found


@pytest.mark.aot
def test_a_replay_launches_what_triton_did(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernels on the same grids with the same numbers, without Triton's binder."""
    layer, x, through = block(), maps(), started(monkeypatch)
    run(layer, x)
    first, binder = list(device.launches), list(through)
    assert [name for name, _, _ in first] == binder
    device.launches.clear()
    run(layer, x)
    assert device.launches == first
    assert through == binder


@pytest.mark.aot
def test_addresses_that_are_not_aligned_have_kernels_of_their_own(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Device` holds every address to what the kernel was compiled for."""
    layer, through = block(), started(monkeypatch)
    for x in (maps(), moved(maps()), maps(), moved(maps())):
        through.clear()
        layer(x)
    assert not through


@pytest.mark.aot
def test_a_replay_is_on_the_device_and_stream_of_its_tensors(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another card is the current one, which it is again afterwards."""
    x = maps()
    made = prepared.Plan(prepared.Recipe(("x",), neighbours, 1), (), ((x.shape, x.dtype, x.device),), (x.stride(),))
    made.run((x,), (x.data_ptr(),))
    assert made.compiled
    current, seen, empty = [0], [], torch.empty

    @contextlib.contextmanager
    def switched(to: torch.device) -> Iterator[None]:
        before, current[0] = current[0], to.index
        yield
        current[0] = before

    def allocate(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        seen.append(("memory", device.index, current[0]))
        return empty(shape, dtype=dtype)

    def stream(index: int) -> int:
        seen.append(("stream", index, current[0]))
        return index

    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "current_device", lambda: current[0])
        patched.setattr(torch.cuda, "device", switched)
        patched.setattr(torch, "empty", allocate)
        patched.setattr(driver.active, "get_current_stream", stream)
        made.device = torch.device("cuda:1")
        launched = len(device.launches)
        made.run((x,), (x.data_ptr(),))
    assert seen == [("memory", 1, 1), ("stream", 1, 1)]
    assert len(device.launches) == launched + 1
    assert current == [0]


@pytest.mark.aot
def test_hooks_of_launches_are_called_for_replays(device: Device) -> None:
    """A profiler that Triton tells of launches is told of these, too."""
    layer, x = block().eval(), maps()
    with torch.no_grad():
        layer(x)
        knobs.runtime.launch_enter_hook.add(print)
        try:
            device.abouts.clear()
            layer(x)
        finally:
            knobs.runtime.launch_enter_hook.remove(print)
        names = [about.get()["name"] for about in device.abouts]
        assert names == ["fcc_forward_kernel", "ccc_stack_kernel", "ccc_neighbours_kernel", "ccc_edges_kernel"]
        device.abouts.clear()
        layer(x)
        assert device.abouts == [None] * 4


@pytest.mark.interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_running_statistics_are_those_of_calls_in_turn(dtype: torch.dtype) -> None:
    """Group after group, counted, in the dtype of the buffers, their versions raised."""
    groups, half, elements = 3, 150, 8
    mean, var = seeded(groups, 2 * half), seeded(groups, 2 * half, seed=1).square()
    running = [seeded(half, seed=2 + i).square().to(dtype) for i in range(4)]
    running += [torch.tensor(5), torch.tensor(7)]
    before, versions = [value.clone() for value in running], [value._version for value in running]
    fcc.fcc_running(mean, var, running, 0.1, elements)
    for i, value in enumerate(running[:4]):
        expected = before[i].float()
        for g in range(groups):
            statistic = (mean, var * (elements / (elements - 1)))[i % 2][g].chunk(2)[i // 2]
            expected = torch.lerp(expected, statistic, 0.1)
        torch.testing.assert_close(value, expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    assert [int(value) for value in running[4:]] == [5 + groups, 7 + groups]
    assert all(value._version > version for value, version in zip(running, versions, strict=True))
    torch.library.opcheck(fcc.fcc_running, (mean, var, running, 0.1, elements))
