"""The F5C layer on the Triton kernels: the same numbers as on PyTorch, in few launches and little traffic."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

from harness.compare import seeded
from harness.kernel_checks import LAYOUTS, count_launches, first_runs

from mol_fast import F5C, MOL
from mol_fast.nn.norm import FrameBatchNorm2d, read_running


def blocks(device: str, dtype: torch.dtype, *, channels: int = 8, neighbors: int = 3) -> tuple[F5C, F5C]:
    """The same block, with parameters that are not those of the start, on PyTorch and on Triton."""
    torch.manual_seed(0)
    plain = F5C(channels, (4, 6), neighbors, backend="torch")
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.3)
    fused = F5C(channels, (4, 6), neighbors, backend="triton")
    fused.load_state_dict(plain.state_dict())
    return plain.to(device, dtype), fused.to(device, dtype)


@first_runs
@pytest.mark.parametrize("training", [True, False])
def test_layers_agree(device: str, dtype: torch.dtype, training: bool) -> None:
    x = torch.randn(6, 8, 4, 6, dtype=dtype, device=device)
    g = torch.randn_like(x)
    found = []
    for block in blocks(device, dtype):
        leaf = x.clone().requires_grad_()
        y = block.train(training)(leaf, 3) if training else block.eval()(leaf)
        gradients = torch.autograd.grad(y, [leaf, *block.parameters()], g)
        found.append([y.detach(), *gradients, *block.buffers()])
    for plain, fused in zip(*found, strict=True):
        assert_close(fused, plain, atol=2e-5, rtol=2e-5)


def freeze(block: F5C) -> None:
    block.fcc.vh.norm.eval()
    block.fcc.hv.norm.eval()


def average(block: F5C) -> None:
    block.fcc.vh.norm.momentum = None


def forget(block: F5C) -> None:
    for half in (block.fcc.vh, block.fcc.hv):
        half.norm = FrameBatchNorm2d(len(half.kernel1), eps=0.1, track_running_stats=False).to(half.kernel1)


def prune_kernel(block: F5C) -> None:
    prune.l1_unstructured(block.fcc.vh, "kernel1", 0.5)


@first_runs
@pytest.mark.parametrize("change", [freeze, average, forget, prune_kernel])
def test_defect_15_settings_of_the_norms(device: str, dtype: torch.dtype, change: Callable[[F5C], None]) -> None:
    """The kernels of FCC keep to them as PyTorch does."""
    x = torch.randn(2, 8, 4, 6, dtype=dtype, device=device)
    found = []
    for block in blocks(device, dtype):
        change(block)
        y = block.fcc(x, 2)
        y.square().sum().backward()
        found.append([y.detach(), *(value.grad for value in block.fcc.parameters()), *block.fcc.buffers()])
    for plain, fused in zip(*found, strict=True):
        assert_close(fused, plain, atol=5e-5, rtol=5e-5)


def same(block: F5C) -> None:
    """Leave the block as it is."""


def freeze_fcc(block: F5C) -> None:
    block.fcc.requires_grad_(requires_grad=False)


def freeze_ccc(block: F5C) -> None:
    block.ccc.requires_grad_(requires_grad=False)


def mix_dtypes(block: F5C) -> None:
    block.fcc.hv.kernel1 = nn.Parameter(block.fcc.hv.kernel1.detach().double())
    block.ccc.node.half()


def mix_statistics(block: F5C) -> None:
    block.fcc.hv.norm.double()


def transpose(block: F5C) -> None:
    block.ccc.edge.weight = nn.Parameter(block.ccc.edge.weight.detach().t().contiguous().t())


def tie_norms(block: F5C) -> None:
    block.fcc.hv.norm = block.fcc.vh.norm


def hook_fcc(block: F5C) -> None:
    block.fcc.register_forward_hook(lambda *_: None)


def replace_ccc(block: F5C) -> None:
    block.ccc = nn.Identity()


@first_runs
@pytest.mark.parametrize(
    ("change", "training", "at_once"),
    [
        (same, True, True),
        (same, False, True),
        (freeze, True, True),
        (forget, True, True),
        (prune_kernel, True, True),
        (freeze_ccc, True, True),
        (mix_dtypes, True, True),
        (mix_statistics, True, False),
        (transpose, True, True),
        (freeze_fcc, True, False),
        (average, True, False),
        (tie_norms, True, False),
        (tie_norms, False, True),
        (average, False, True),
        (hook_fcc, True, False),
        (replace_ccc, True, False),
    ],
)
def test_one_step_is_both_layers(
    device: str, dtype: torch.dtype, change: Callable[[F5C], None], training: bool, at_once: bool
) -> None:
    """Bit for bit, in outputs, gradients and buffers, from strided maps and gradients.

    Where a layer was changed, or FCC needs no backward, both are called. So they are where PyTorch updates running
    statistics, which are averages or of two dtypes.
    """
    channels_last = LAYOUTS[1]
    x, g = (channels_last(seeded(2, 2, 4, 6, seed=i, dtype=dtype)).to(device) for i in range(2))
    found = []
    for called in (True, False):
        block = blocks(device, dtype, channels=2, neighbors=2)[1].train(training)
        change(block)
        leaf = x.clone().requires_grad_(change is not freeze_fcc)
        y = block.ccc(block.fcc(leaf, 2)) if called else block(leaf, 2)
        assert ("Block" in y.grad_fn.name()) == (at_once and not called)
        y.backward(g)
        gradients = [value.grad for value in (leaf, *block.parameters()) if value.requires_grad]
        found.append([y.detach(), *gradients, *block.buffers()])
    for apart, together in zip(*found, strict=True):
        assert apart.stride() == together.stride()
        assert torch.equal(apart, together)


class Watched(TorchFunctionMode):
    """Calls every function as it is."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    """Calls every operator as it is."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@first_runs
@pytest.mark.parametrize(
    "watch",
    [Watched, Dispatched, lambda: register_module_forward_hook(lambda *_: None), lambda: torch.device("cpu")],
)
def test_both_layers_are_called_where_something_watches(
    device: str, dtype: torch.dtype, watch: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Modes of PyTorch, and hooks on all modules. In a backward, too, with the same gradients."""
    block = blocks(device, dtype, channels=2, neighbors=2)[1]
    x, g = (seeded(2, 2, 4, 6, seed=i, dtype=dtype).to(device) for i in range(2))
    leaf = x.requires_grad_()
    together = block(leaf, 2)
    assert "Block" in together.grad_fn.name()
    expected = torch.autograd.grad(together, leaf, g, retain_graph=True)
    with watch():
        assert "Correspondence" in block(leaf, 2).grad_fn.name()
        assert torch.equal(torch.autograd.grad(together, leaf, g)[0], expected[0])


@first_runs
def test_lazy_tensors_are_what_they_stand_for(device: str, dtype: torch.dtype) -> None:
    """Maps and gradients that PyTorch has not yet negated, or filled with zeros."""
    block = blocks(device, dtype, channels=2, neighbors=2)[1]
    x = seeded(2, 2, 4, 6, dtype=dtype).to(device)
    leaf = x.clone().requires_grad_()
    y = block(leaf, 2)
    assert torch.equal(block(torch._neg_view(-x), 2), y)
    found = [
        torch.autograd.grad(y, leaf, d, retain_graph=True)[0]
        for d in (x, torch._neg_view(-x), torch._efficientzerotensor(x.shape, dtype=dtype, device=device))
    ]
    assert torch.equal(found[0], found[1])
    assert not found[2].any()


@first_runs
def test_a_tangent_is_refused_not_lost(device: str, dtype: torch.dtype) -> None:
    """The kernels have no forward-mode derivative, also where no gradient is wanted."""
    block = blocks(device, dtype, channels=2, neighbors=2)[1].eval().requires_grad_(requires_grad=False)
    x = seeded(2, 2, 4, 6, dtype=dtype).to(device)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode AD"):
        block(forward_ad.make_dual(x, x))


@first_runs
def test_running_statistics_are_new_and_there_is_one_derivative(device: str, dtype: torch.dtype) -> None:
    """Autograd knows both."""
    block = blocks(device, dtype, channels=2, neighbors=2)[1]
    leaf = seeded(2, 2, 4, 6, dtype=dtype).to(device).requires_grad_()
    running = read_running(block.fcc.vh.norm, block.fcc.hv.norm)
    assert running is not None
    versions = [value._version for value in running]
    y = block(leaf, 2)
    assert all(value._version > version for value, version in zip(running, versions, strict=True))
    (first,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="has no derivative: the Triton kernels differentiate once"):
        first.sum().backward()


@first_runs
@pytest.mark.parametrize("name", ["ccc.mix", "fcc.hv.norm"])
def test_defect_14_layers_that_must_be_called_are_refused(device: str, dtype: torch.dtype, name: str) -> None:
    """By the backend that is asked for by name. "auto" calls them, on PyTorch, wherever the maps are."""
    plain, fused = blocks(device, dtype)
    x = torch.randn(4, 8, 4, 6, dtype=dtype, device=device)
    expected = plain(x)
    for block in (plain, fused):
        block.get_submodule(name).register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match=r'backend="triton" does not call .* use backend="auto" or "torch"'):
        fused(x)
    for part in (plain.fcc, plain.ccc):
        part.backend = "auto"
    plain.load_state_dict(fused.state_dict())
    assert_close(plain(x), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("training", [True, False])
@first_runs
def test_layers_compile_without_a_graph_break(device: str, dtype: torch.dtype, training: bool) -> None:
    """To the same outputs, gradients and running statistics."""
    x = torch.randn(2, 8, 4, 6, dtype=dtype, device=device)
    found = []
    for compiled in (False, True):
        block = blocks(device, dtype)[1].train(training)
        layer = torch.compile(block, fullgraph=True, backend="aot_eager") if compiled else block
        leaf = x.clone().requires_grad_()
        y = layer(leaf, 2)
        y.square().sum().backward()
        gradients = [value.grad for value in (leaf, *block.parameters())]
        found.append([y.detach(), *gradients, *block.buffers()])
    for eager, compiled_value in zip(*found, strict=True):
        assert torch.equal(eager, compiled_value)


@first_runs
def test_layers_export(device: str, dtype: torch.dtype) -> None:
    """A graph with the operators in it, whose batch is not fixed."""
    block = blocks(device, dtype)[1].eval()
    x = torch.randn(3, 8, 4, 6, dtype=dtype, device=device)
    batch = torch.export.Dim("batch", min=2, max=64)
    with torch.no_grad():
        program = torch.export.export(block, (x,), dynamic_shapes=({0: batch},))
        assert {"mol_fast.fcc_eval.default", "mol_fast.ccc.default"} <= {
            str(node.target) for node in program.graph.nodes
        }
        for n in (3, 2):
            assert_close(program.module()(x[:n]), block(x[:n]), rtol=0, atol=0)


@first_runs
def test_launches_of_a_training_step(device: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 6 launches forward and 10 backward."""
    launched = count_launches(monkeypatch)
    _, block = blocks(device, dtype)
    x = torch.randn(2, 8, 4, 6, dtype=dtype, device=device, requires_grad=True)
    block(x).sum().backward()
    assert launched.count("forward") == 6
    assert launched.count("backward") <= 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_model_uses_them_on_a_gpu() -> None:
    torch.manual_seed(0)
    model = MOL(flow_width=0.25, backend="triton").cuda().eval()
    plain = MOL(flow_width=0.25, backend="torch").cuda().eval()
    plain.load_state_dict(model.state_dict())
    clip = torch.randn(1, 1, 8, 128, 128, device="cuda")
    with torch.no_grad():
        for fused, expected in zip(model(clip), plain(clip), strict=True):
            assert_close(fused, expected, atol=1e-3, rtol=1e-3)
