"""The edge convolution of CCC: of every node the largest edge to a neighbour, and the gradient of it."""

from typing import Any

import torch
from torch import Tensor


class _EdgeMax(torch.autograd.Function):
    """ReLU(p + max) `(rows, D)` with the maximum over row i and rows index[r, i] of `q (rows, D)`, and the maximum.

    The gradient goes to one row that has the maximum. Autograd of these steps would do the same in several times the
    memory traffic.
    """

    @staticmethod
    def forward(p: Tensor, q: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        best = q
        for row in index:
            best = torch.maximum(best, q.index_select(0, row))
        return (p + best).relu_(), best

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        _, q, index = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, index, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad is None:
            return None, None, None
        q, index, edges, best = (tensor.detach() for tensor in ctx.saved_tensors)
        d_p = rest = grad * edges.sign()
        won = []
        for row in index:
            others = rest * _below(q.index_select(0, row), best)
            won.append(rest - others)
            rest = others
        # What the compiler makes of the additions to rows, atomic ones, takes several times as long on a CPU.
        whole = torch.compiler.is_compiling() and grad.device.type == "cpu"
        return d_p, (_opaque_add_rows if whole else _add_rows)(rest, index, won), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int | None]]:
        """The rows of a whole batch, one after the other, are those of one call."""
        size = info.batch_size
        p, q, index = (
            value.expand(size, -1, -1) if dim is None else value.movedim(dim, 0)
            for value, dim in zip(inputs, in_dims, strict=True)
        )
        index = index + torch.arange(size, device=q.device)[:, None, None] * q.shape[1]
        rows = _EdgeMax.apply(p.flatten(0, 1), q.flatten(0, 1), index.transpose(0, 1).flatten(1))
        edges, best = (value.unflatten(0, (size, -1)) for value in rows)
        if in_dims[1:] == (None, None):  # so that the maximum is as batched as the rows that it is compared with
            return (edges, best[0]), (0, None)
        return (edges, best), (0, 0)


def _below(values: Tensor, bound: Tensor) -> Tensor:
    """1 where values are below the bound, 0 elsewhere; `values` may be overwritten.

    The compiler would keep a comparison for the backward pass as booleans, which are slow on a CPU.
    """
    return (bound - values).sign() if torch.compiler.is_compiling() else values.lt_(bound)


def _add_rows(rows: Tensor, index: Tensor, added: list[Tensor]) -> Tensor:
    """`rows` plus row i of added[r] in row index[r, i], for all r and i."""
    total = rows.index_add(0, index[0], added[0])
    for row, values in zip(index[1:], added[1:], strict=True):
        total.index_add_(0, row, values)
    return total


@torch.library.custom_op("mol_fast::add_rows", mutates_args=())
def _opaque_add_rows(rows: Tensor, index: Tensor, added: list[Tensor]) -> Tensor:
    """`_add_rows`, which the compiler does not look into."""
    return _add_rows(rows, index, added)


@_opaque_add_rows.register_fake
def _(rows: Tensor, index: Tensor, added: list[Tensor]) -> Tensor:
    return rows.new_empty(rows.shape)


def edge_max(p: Tensor, q: Tensor, index: Tensor) -> Tensor:
    """ReLU of p[n, v, :] plus the largest of q[n, v, :] and all q[n, index[n, v, r], :], `(N, V, D)`.

    Args:
        p, q: `(N, V, D)`.
        index: other nodes, `(N, V, k - 1)`.
    """
    if not index.shape[2]:
        return torch.relu(p + q)
    n, v, _ = q.shape
    rows = index + torch.arange(n, device=q.device)[:, None, None] * v
    edges: Tensor = _EdgeMax.apply(p.flatten(0, 1), q.flatten(0, 1), rows.permute(2, 0, 1).flatten(1))[0]
    return edges.unflatten(0, (n, v))
