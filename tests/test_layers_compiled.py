"""The layers through torch.compile and torch.export: one graph, and the results of the layers themselves."""

import copy
from collections.abc import Callable

import pytest
import torch
from compare import randomise, seeded
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.testing import assert_close

from mol_fast import F5C

VARIANTS = ("paper", "official")


def block(variant: str, training: bool = True) -> F5C:
    module = F5C(4, (2, 3), 2, variant)
    randomise(module)
    return module.train(training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_compile_in_one_graph(variant: str, training: bool) -> None:
    """No graph break, one graph for any batch, and the same results, gradients and statistics."""
    module = block(variant, training)
    compiled = copy.deepcopy(module)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    function = torch.compile(compiled, fullgraph=True, backend="aot_eager")
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
    torch._dynamo.reset()
    function = torch.compile(compiled, fullgraph=True)
    x, g = seeded(4, 4, 2, 3), seeded(4, 4, 2, 3, seed=99)
    module(x).backward(g)
    function(x).backward(g)
    for name, parameter in module.named_parameters():
        assert_close(compiled.get_parameter(name).grad, parameter.grad, atol=1e-5, rtol=1e-4, msg=name)
    assert_close(dict(compiled.named_buffers()), dict(module.named_buffers()))


@pytest.mark.parametrize("columns", [True, False])
def test_rows_are_added_as_the_compiler_expects(columns: bool) -> None:
    """Of every layout: what is stored by columns does not make the result so."""
    rows, added = (x.t().contiguous().t() if columns else x for x in (seeded(5, 4), seeded(5, 4, seed=1)))
    index = torch.tensor([[1, 2, 3, 4, 0], [1, 0, 0, 0, 2]])
    torch.library.opcheck(torch.ops.mol_fast.add_rows, (rows, index, [added, added]))


def test_compiled_for_a_cpu_rows_are_added_by_one_operator() -> None:
    found: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        found.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    function = torch.compile(block("paper"), backend=aot_autograd(fw_compiler=backend))
    function(seeded(3, 4, 2, 3)).sum().backward()
    assert "mol_fast.add_rows.default" in found
    assert not any("index_add" in name for name in found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_export_with_any_batch(variant: str) -> None:
    module = block(variant, training=False)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (seeded(3, 4, 2, 3),), dynamic_shapes={"x": {0: batch}})
    for n in (1, 2, 5):
        x = seeded(n, 4, 2, 3, seed=n)
        assert_close(program.module()(x), module(x))
