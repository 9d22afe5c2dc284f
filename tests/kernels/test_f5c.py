"""The F5C layer on the Triton kernels: the same numbers as on PyTorch, in few launches and little traffic."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.testing import assert_close

pytest.importorskip("triton")

from harness.kernel_checks import count_launches, first_runs

from mol_fast import F5C, MOL
from mol_fast.nn.norm import FrameBatchNorm2d


def blocks(device: str, dtype: torch.dtype, *, neighbors: int = 3) -> tuple[F5C, F5C]:
    """The same block, with parameters that are not those of the start, on PyTorch and on Triton."""
    torch.manual_seed(0)
    plain = F5C(8, (4, 6), neighbors, backend="torch")
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.3)
    fused = F5C(8, (4, 6), neighbors, backend="triton")
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
        half.norm = FrameBatchNorm2d(4, eps=0.1, track_running_stats=False).to(half.kernel1)


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
