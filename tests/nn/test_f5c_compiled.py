"""The layers through torch.compile and torch.export: one graph, and the results of the layers themselves."""

import copy
from collections.abc import Callable

import pytest
import torch
from functorch.compile import make_boxed_func
from harness.compare import randomise, seeded
from harness.compiler import quick_compiler
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.testing import assert_close

from mol_fast import F5C
from mol_fast.ops.ccc import FEW, edge_max, neighbours

VARIANTS = ("paper", "official")


def block(variant: str, training: bool = True, k: int = 4) -> F5C:
    module = F5C(4, (2, 3), k, variant)
    randomise(module)
    return module.train(training)


@pytest.mark.parametrize(
    ("training", "k", "backend"), [(True, 4, "aot_eager"), (True, 1, "eager"), (False, 4, "eager")]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_compile_in_one_graph(variant: str, training: bool, k: int, backend: str) -> None:
    """No graph break, one graph for any batch, and the same results, gradients and statistics.

    The graph of the dearest case is also split into forward and backward.
    """
    module = block(variant, training, k)
    compiled = copy.deepcopy(module)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    function = torch.compile(compiled, fullgraph=True, backend=backend)
    for n in (4, 6):
        x = seeded(n, 4, 2, 3)
        torch._dynamo.mark_dynamic(x, 0)
        expected, actual = module(x, groups=2), function(x, groups=2)
        assert_close(actual, expected)
        expected.sum().backward()
        actual.sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for name, parameter in module.named_parameters():
        assert_close(compiled.get_parameter(name).grad, parameter.grad, atol=1e-5, rtol=1e-4, msg=name)
    assert_close(dict(compiled.named_buffers()), dict(module.named_buffers()))


def test_compile_to_native_code() -> None:
    module = block("paper")
    compiled = copy.deepcopy(module)
    x, g = seeded(4, 4, 2, 3), seeded(4, 4, 2, 3, seed=99)
    module(x).backward(g)
    with quick_compiler():
        torch.compile(compiled, fullgraph=True)(x).backward(g)
    for name, parameter in module.named_parameters():
        assert_close(compiled.get_parameter(name).grad, parameter.grad, atol=1e-5, rtol=1e-4, msg=name)
    assert_close(dict(compiled.named_buffers()), dict(module.named_buffers()))


@pytest.mark.parametrize("k", [1, 2, 4, FEW + 1, FEW + 2])
@pytest.mark.parametrize("kind", ["random", "equal", "zero", "not a number"])
def test_neighbours_are_the_same_compiled(kind: str, k: int) -> None:
    """And up to `FEW` of them are found without writing to single places, which takes long in compiled code."""
    nodes = seeded(2, FEW + 3, 6)
    if kind == "equal":
        nodes = nodes[:, :4].repeat(1, 3, 1)
    elif kind != "random":
        nodes[0, 1], nodes[1, 5] = 0, (0 if kind == "zero" else torch.nan)
    calls: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        calls.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch._dynamo.reset()
    actual = torch.compile(neighbours, fullgraph=True, backend=backend)(nodes, k)
    assert torch.equal(actual, neighbours(nodes, k))
    if 1 < k <= FEW + 1:
        assert "max" in calls
        assert not {"scatter_", "fill_", "diagonal"} & set(calls)


def test_compiled_jacobian_of_the_edges() -> None:
    index = torch.tensor([[[1, 2], [0, 2], [1, 0]], [[2, 1], [2, 0], [0, 1]]])

    def jacobian(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.jacrev(lambda p, q: edge_max(p, q, index), (0, 1))(p, q)

    p, q = seeded(2, 3, 2), seeded(2, 3, 2, seed=1)
    torch._dynamo.reset()
    assert_close(torch.compile(jacobian, backend="aot_eager")(p, q), jacobian(p, q))


def test_compiled_for_a_cpu_rows_are_added_at_once() -> None:
    """As the sum that the compiler leaves to PyTorch, and not as additions that it makes atomic."""
    found: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        found.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    function = torch.compile(block("paper"), backend=aot_autograd(fw_compiler=backend))
    function(seeded(3, 4, 2, 3)).sum().backward()
    assert found.count("aten.scatter_reduce.two") == 1
    assert not any("index_add" in name or "scatter_add" in name for name in found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_export_with_any_batch(variant: str) -> None:
    module = block(variant, training=False)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (seeded(3, 4, 2, 3),), dynamic_shapes={"x": {0: batch}})
    for n in (1, 2, 5):
        x = seeded(n, 4, 2, 3, seed=n)
        assert_close(program.module()(x), module(x))
