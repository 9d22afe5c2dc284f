"""CCC as batched PyTorch: the neighbours that it selects."""

import pytest
import torch
from harness.compare import as_layer, assert_runs_equal, randomise, run, seeded, state
from harness.f5c import HALF
from torch.testing import assert_close

from mol_fast import CCC
from mol_fast import reference as ref
from mol_fast.ops.ccc import neighbours


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
