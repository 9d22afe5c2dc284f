"""CCC in batched PyTorch: neighbours, edges, and the layer between channels or positions.

Shapes: N maps, C channels of H x W, D = H W, V nodes with k neighbours each, including the node itself.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_FLOOR = 1e-12
FEW = 8
"""Largest number of neighbours that are selected one by one."""


def neighbours(nodes: Tensor, k: int) -> Tensor:
    """Return indices `(N, V, k - 1)` of the neighbours of each of the V `nodes (N, V, features)`, most similar first.

    Neighbours have the largest cosine similarity. The node itself always counts as the first neighbour and is omitted.
    The order matters for variant "official", where a linear layer mixes the r-th neighbours of all nodes. Similarities
    are computed in float32 or better, without gradient.
    """
    with torch.no_grad():
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        products = torch.bmm(nodes, nodes.transpose(1, 2))
        # The norm of the searching node is the same for all candidates, so it is omitted.
        if torch.compiler.is_compiling() and 1 < k <= FEW + 1:
            return _largest_of_columns(products * _inverse_norm(nodes.square().sum(dim=2))[:, :, None], k - 1)
        similarity = products * _inverse_norm(products.diagonal(dim1=1, dim2=2))[:, None]
        similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        return _largest(similarity, k - 1)


def _inverse_norm(squares: Tensor) -> Tensor:
    return squares.clamp_min(NORM_FLOOR**2).rsqrt()


def _largest(values: Tensor, count: int) -> Tensor:
    """Return indices of the `count` largest values along the last dimension, largest first. Overwrites `values`.

    For small `count`, repeated maxima take half the time of topk. Compiled code uses `_largest_of_columns`.
    """
    if not 0 < count <= FEW:
        return values.topk(count, dim=-1).indices
    indices = [values.max(dim=-1, keepdim=True).indices]
    while len(indices) < count:
        values.scatter_(-1, indices[-1], -torch.inf)
        indices.append(values.max(dim=-1, keepdim=True).indices)
    return torch.cat(indices, dim=-1)


def _largest_of_columns(values: Tensor, count: int) -> Tensor:
    """Return indices `(N, V, count)` of the largest values of every column of `values (N, V, V)`, off the diagonal.

    For the compiler, which vectorises maxima across rows and masks, but not `_largest`.
    """
    place = torch.arange(values.shape[1], device=values.device)
    index, indices = place, []
    for _ in range(count):
        values = values.where(place[:, None] != index, -torch.inf)
        index = values.max(dim=1, keepdim=True).indices
        indices.append(index)
    return torch.cat(indices, dim=1).transpose(1, 2)


def ccc_paper(
    x: Tensor,
    node_weight: Tensor,
    node_bias: Tensor,
    edge_weight: Tensor,
    edge_bias: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
    k: int,
) -> Tensor:
    """Compute CCC between channels: x + mix(ReLU(P + max_j Q_j)), P = F (W_n - W_e)^T + b_n + b_e, Q = F W_e^T."""
    f = x.flatten(2)
    index = neighbours(f, k)
    exact = torch.promote_types(x.dtype, torch.float32)
    linears = (node_weight, node_bias, edge_weight, edge_bias)
    node_weight, node_bias, edge_weight, edge_bias = (p.to(exact) for p in linears)
    weight = torch.cat([node_weight - edge_weight, edge_weight]).to(x.dtype)
    bias = node_bias + edge_bias
    p, q = F.linear(f, weight, torch.cat([bias, torch.zeros_like(bias)]).to(x.dtype)).chunk(2, dim=2)
    edges = edge_max(p, q, index)
    start = f + mix_bias.to(x.dtype)[:, None]
    return start.baddbmm_(mix_weight.to(x.dtype).expand(x.shape[0], -1, -1), edges).view_as(x)


def ccc_official(
    x: Tensor, node_weight: Tensor, node_bias: Tensor, edge_weight: Tensor, edge_bias: Tensor, k: int
) -> Tensor:
    """Compute CCC between positions (official code): x + max_r ReLU(node(f) + edge(f[idx_r] - 2 f)) per channel f."""
    f = x.flatten(2)
    index = neighbours(f.transpose(1, 2), k)
    exact = torch.promote_types(x.dtype, torch.float32)
    linears = (node_weight, node_bias, edge_weight, edge_bias)
    node_weight, node_bias, edge_weight, edge_bias = (p.to(exact) for p in linears)
    own = F.linear(f, (node_weight - 2 * edge_weight).to(x.dtype), (node_bias + edge_bias).to(x.dtype))
    edge_weight = edge_weight.to(x.dtype)
    best = F.linear(f, edge_weight)
    for nearest in index.unbind(dim=2):
        best = torch.maximum(best, _edge(f, nearest, edge_weight))
    return x + torch.relu(own + best).view_as(x)


Layer = Callable[[Tensor], Tensor]


def ccc_paper_called(x: Tensor, node: Layer, edge: Layer, mix: Layer, k: int) -> Tensor:
    """Compute `ccc_paper` by calling each layer once: x + mix(max_j ReLU(node(f_i) + edge(f_j - f_i))).

    Holds k times the maps: a layer that is called may do anything, so nothing here relies on its being linear.
    """
    f = x.flatten(2)
    _, c, d = f.shape
    index = neighbours(f, k).flatten(1)[:, :, None].expand(-1, -1, d)
    others = f.gather(1, index).unflatten(1, (c, k - 1)) - f[:, :, None]
    away = torch.cat([torch.zeros_like(f)[:, :, None], others], dim=2)  # (N, C, k, D)
    edges = torch.relu((_call("node", node, f)[:, :, None] + _call("edge", edge, away)).max(dim=2).values)
    return (x + _call("mix", mix, edges.view_as(x))).to(x.dtype)


def ccc_official_called(x: Tensor, node: Layer, edge: Layer, k: int) -> Tensor:
    """Compute `ccc_official` by calling each layer once: x + max_r ReLU(node(f) + edge(f[idx_r] - 2 f))."""
    f = x.flatten(2)
    n, c, d = f.shape
    index = neighbours(f.transpose(1, 2), k).transpose(1, 2)  # (N, k - 1, D)
    index = torch.cat([torch.arange(d, device=x.device).expand(n, 1, -1), index], dim=1)
    away = f.gather(2, index.flatten(1)[:, None].expand(-1, c, -1)).unflatten(2, (k, d)) - 2 * f[:, :, None]
    edges = torch.relu((_call("node", node, f)[:, :, None] + _call("edge", edge, away)).max(dim=2).values)
    return (x + edges.view_as(x)).to(x.dtype)


def _call(name: str, layer: Layer, x: Tensor) -> Tensor:
    """Call a layer, which must keep the shape: a smaller result would be spread over the maps."""
    y = layer(x)
    if y.shape != x.shape:
        raise ValueError(f"{name} of CCC must keep the shape {tuple(x.shape)} of its input, it gave {tuple(y.shape)}")
    return y


def _edge(f: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Gather positions `index (N, D)` of every map of `f (N, C, D)`, and apply the edge's `weight`."""
    return F.linear(f.gather(2, index[:, None].expand(-1, f.shape[1], -1)), weight)


class _EdgeMax(torch.autograd.Function):
    """Return ReLU(p + max) `(rows, D)` and max, the maximum over row i and rows index[r, i] of `q (rows, D)`.

    The gradient goes to one row with the maximum. Autograd of these steps would need several times the memory traffic.
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
        """Stack the rows of the whole batch, and make one call."""
        size = info.batch_size
        p, q, index = (
            value.expand(size, -1, -1) if dim is None else value.movedim(dim, 0)
            for value, dim in zip(inputs, in_dims, strict=True)
        )
        index = index + torch.arange(size, device=q.device)[:, None, None] * q.shape[1]
        rows = _EdgeMax.apply(p.flatten(0, 1), q.flatten(0, 1), index.transpose(0, 1).flatten(1))
        edges, best = (value.unflatten(0, (size, -1)) for value in rows)
        if in_dims[1:] == (None, None):  # keep the maximum unbatched, like the rows it is compared with
            return (edges, best[0]), (0, None)
        return (edges, best), (0, 0)


def _gradients(grad: Tensor, q: Tensor, index: Tensor, edges: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of p and q from the gradient of the edges."""
    d_p = rest = torch.ops.aten.threshold_backward(grad, edges, 0)
    for rank, row in enumerate(index):
        others = rest * q.index_select(0, row).lt_(best)  # factor 1 or 0, and 0 for a NaN
        if rank == 0:
            d_q = others.new_zeros(q.shape)  # made from `others`, so that under vmap it is batched if anything is
        d_q = d_q.index_add_(0, row, rest - others)
        rest = others
    return d_p, d_q.add_(rest)


def _compiled_gradients(grad: Tensor, q: Tensor, index: Tensor, edges: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same gradients as `_gradients`, for compiled code on a CPU.

    The compiler would store comparisons as booleans for the backward pass and make additions to rows atomic, both slow.
    It leaves `scatter_reduce` to PyTorch. A non-finite gradient may spread further than in `_gradients`.
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
    """Return ReLU(p[n, v] + max(q[n, v], q[n, index[n, v, r]] for all r)), `(N, V, D)`.

    Args:
        p, q: `(N, V, D)`.
        index: `(N, V, k - 1)`, neighbours of each node, without the node itself.
    """
    if not index.shape[2]:
        return torch.relu(p + q)
    n, v, _ = q.shape
    rows = index + torch.arange(n, device=q.device)[:, None, None] * v
    edges: Tensor = _EdgeMax.apply(p.flatten(0, 1), q.flatten(0, 1), rows.permute(2, 0, 1).flatten(1))[0]
    return edges.unflatten(0, (n, v))
