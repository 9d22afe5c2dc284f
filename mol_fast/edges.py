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
        saved = (tensor.detach() for tensor in ctx.saved_tensors)
        compiled = torch.compiler.is_compiling() and grad.device.type == "cpu"
        return *(_compiled_gradients if compiled else _gradients)(grad, *saved), None

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


def _gradients(grad: Tensor, q: Tensor, index: Tensor, edges: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Of p and q, from that of the edges."""
    d_p = rest = torch.ops.aten.threshold_backward(grad, edges, 0)
    for rank, row in enumerate(index):
        others = rest * q.index_select(0, row).lt_(best)  # by 1 or 0, and 0 for a NaN
        if rank == 0:
            d_q = others.new_zeros(q.shape)  # of `others`, under vmap batched as soon as anything is
        d_q = d_q.index_add_(0, row, rest - others)
        rest = others
    return d_p, d_q.add_(rest)


def _compiled_gradients(grad: Tensor, q: Tensor, index: Tensor, edges: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """`_gradients` for the compiler on a CPU, where comparisons and additions to rows would be slow.

    It keeps the former as booleans for the backward pass and makes the latter atomic; but a sum by `scatter_reduce` it
    leaves to PyTorch. A gradient that is not finite may reach further than it should.
    """
    d_p = rest = grad * edges.sign()
    won = []
    for row in index:
        others = rest * (best - q.index_select(0, row)).sign()
        won.append(rest - others)
        rest = others
    rows = index.flatten()[:, None].expand(-1, q.shape[1])
    return d_p, rest.scatter_reduce(0, rows, torch.cat(won), "sum")


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
