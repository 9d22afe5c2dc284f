"""The F5C block and the correlation as batched PyTorch: the path of every device without Triton.

Shapes: N maps, C channels of H x W, D = H W, G statistics groups (map n belongs to group n mod G).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast.branch import FCCBranch
from mol_fast.moments import moments

NORM_FLOOR = 1e-12
FEW = 8
"""Neighbours up to which they are selected one by one."""


def circulant(kernel: Tensor) -> Tensor:
    """Matrices `A (C, L, L)` of the circular convolutions by `kernel (C, L)`: (A u)_i = sum_s kernel_s u_(i+s)."""
    length = kernel.shape[1]
    # A[i, m] = kernel[(m - i) mod L]: rows of the Hankel matrix of the doubled kernel, upside down.
    return torch.cat([kernel, kernel], dim=1).unfold(1, length, 1)[:, 1:].flip(1)


def circulant_product(x: Tensor, vertical: Tensor, horizontal: Tensor, scale: Tensor) -> Tensor:
    """scale * A X B^T of every plane of `x (N, C, H, W)`, with the kernels `(C, H)`, `(C, W)` and `scale (G, C)`."""
    n, c, h, w = x.shape
    a, b = circulant(vertical), circulant(horizontal).to(x.dtype)
    a = (a * scale[0, :, None, None] if scale.shape[0] == 1 else a).to(x.dtype)
    planes = x.permute(1, 2, 0, 3).reshape(c, h, n * w)
    planes = torch.bmm(a, planes).view(c, h * n, w)
    y = torch.bmm(planes, b.transpose(1, 2)).view(c, h, n, w).permute(2, 0, 1, 3)
    if scale.shape[0] > 1:
        y = (y.unflatten(0, (-1, scale.shape[0])) * scale[:, :, None, None].to(x.dtype)).flatten(0, 1)
    return y


def batch_statistics(x: Tensor, vh_pos: Tensor, hv_pos: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance `(G, C)` of x plus the positions of the two halves; 0 and 1 when there are no maps."""
    if not x.shape[0]:
        return x.new_zeros(groups, x.shape[1]), x.new_ones(groups, x.shape[1])
    half = x.shape[1] // 2
    x = x.unflatten(0, (x.shape[0] // groups, groups))
    parts = (x[:, :, :half] + vh_pos[:, :, None], x[:, :, half:] + hv_pos[:, None, :])
    statistics = [moments(part, (0, 3, 4)) for part in parts]
    mean, var = (torch.cat(values, dim=1) for values in zip(*statistics, strict=True))
    return mean, var


def affine_maps(vh: FCCBranch, hv: FCCBranch, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The part of FCC that does not depend on x: rows `(G, C, H)` and columns `(G, C, W)` to add to every plane.

    With S1, S2 the sums of the two kernels, a branch adds along its first direction
    scale S2 circ(pos1) + (bias_norm - scale mean) S1 S2 + bias1 S2 + bias2, along its second circ(pos2).
    """
    half = vh.kernel1.shape[0]
    first, second = [], []
    for branch, channels in ((vh, slice(None, half)), (hv, slice(half, None))):
        s, mu = scale[:, channels, None], mean[:, channels, None]
        sum1, sum2 = branch.kernel1.sum(dim=1)[:, None], branch.kernel2.sum(dim=1)[:, None]
        position = torch.bmm(circulant(branch.kernel1), branch.pos1[:, :, None])[:, :, 0]
        constant = (branch.bias[:, None] - s * mu) * sum1 * sum2 + branch.bias1[:, None] * sum2 + branch.bias2[:, None]
        first.append(s * sum2 * position + constant)
        along = torch.bmm(circulant(branch.kernel2), branch.pos2[:, :, None])[:, :, 0]
        second.append(along.expand(scale.shape[0], -1, -1))
    return torch.cat([first[0], second[1]], dim=1), torch.cat([second[0], first[1]], dim=1)


def fcc(
    x: Tensor, vh: FCCBranch, hv: FCCBranch, mean: Tensor | None, var: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """FCC as x + scale A X B^T + rows + columns; see `mol_fast.functional.fcc`."""
    exact = torch.promote_types(x.dtype, torch.float32)
    vh, hv = (FCCBranch(*(p.to(exact) for p in branch)) for branch in (vh, hv))
    if mean is None or var is None:
        mean, var = batch_statistics(x.to(exact), vh.pos1, hv.pos1, groups)
    mean, var = mean.to(exact), var.to(exact)
    weight = torch.cat([vh.weight, hv.weight])
    scale = weight * torch.rsqrt(var + eps)
    rows, columns = affine_maps(vh, hv, mean, scale)
    vertical = torch.cat([vh.kernel1, hv.kernel2])
    horizontal = torch.cat([vh.kernel2, hv.kernel1])
    y = circulant_product(x, vertical, horizontal, scale)
    shift = (rows[:, :, :, None] + columns[:, :, None, :]).to(x.dtype)
    if shift.shape[0] > 1:
        shift = shift.repeat(x.shape[0] // groups, 1, 1, 1)
    return (x + y).add_(shift), mean, var


def neighbours(nodes: Tensor, k: int) -> Tensor:
    """Indices `(N, V, k)` of the k most similar of the V `nodes (N, V, features)`, most similar first.

    By cosine similarity. The order matters between positions, where a linear mixes the r-th neighbours of all nodes.
    Similarities are computed in float32 or better whatever the input, without gradient.
    """
    with torch.no_grad():
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        unit = nodes / torch.linalg.vector_norm(nodes, dim=2, keepdim=True).clamp_min(NORM_FLOOR)
        return _largest(torch.bmm(unit, unit.transpose(1, 2)), k)


def _largest(values: Tensor, k: int) -> Tensor:
    """Indices of the k largest along the last dimension, the largest first; `values` are overwritten.

    For few of them repeated maxima take half the time of a selection.
    """
    if k > FEW:
        return values.topk(k, dim=-1).indices
    indices = []
    for _ in range(k):
        indices.append(values.max(dim=-1, keepdim=True).indices)
        values.scatter_(-1, indices[-1], -torch.inf)
    return torch.cat(indices, dim=-1)


class _GatherMax(torch.autograd.Function):
    """max over r of rows index[r, i] of `q (rows, D)`; the gradient goes to the first row that has the maximum.

    Autograd of gather and maximum would do the same in several times the memory traffic.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, index: Tensor) -> Tensor:
        best = q.index_select(0, index[0])
        for row in index[1:]:
            best = torch.maximum(best, q.index_select(0, row))
        ctx.save_for_backward(q, index, best)
        return best

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        q, index, best = (saved.detach() for saved in ctx.saved_tensors)
        d_q = torch.zeros_like(q)
        for row in index:
            rest = grad * q.index_select(0, row).lt_(best)  # by 1 or 0, and 0 for a NaN
            d_q = d_q.index_add_(0, row, grad - rest)
            grad = rest
        return d_q, None


def gather_max(q: Tensor, index: Tensor) -> Tensor:
    """max over r of q[n, index[n, v, r], :], for `q (N, V, D)` and `index (N, V, k)`: `(N, V, D)`."""
    n, v, d = q.shape
    rows = index + torch.arange(n, device=q.device)[:, None, None] * v
    return _GatherMax.apply(q.reshape(n * v, d), rows.permute(2, 0, 1).flatten(1)).view(n, v, d)


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
    """CCC between channels: x + mix(ReLU(P + max_j Q_j)), P = F (W_n - W_e)^T, Q = F W_e^T + b_n + b_e."""
    f = x.flatten(2)
    index = neighbours(f, k)
    exact = torch.promote_types(x.dtype, torch.float32)
    linears = (node_weight, node_bias, edge_weight, edge_bias)
    node_weight, node_bias, edge_weight, edge_bias = (p.to(exact) for p in linears)
    q = F.linear(f, edge_weight.to(x.dtype), (node_bias + edge_bias).to(x.dtype))
    own = (node_weight - edge_weight).to(x.dtype)
    edges = torch.addmm(gather_max(q, index).flatten(0, 1), f.flatten(0, 1), own.t()).relu_().view_as(f)
    start = f + mix_bias.to(x.dtype)[:, None]
    return start.baddbmm_(mix_weight.to(x.dtype).expand(x.shape[0], -1, -1), edges).view_as(x)


def ccc_official(
    x: Tensor, node_weight: Tensor, node_bias: Tensor, edge_weight: Tensor, edge_bias: Tensor, k: int
) -> Tensor:
    """CCC between positions, as released: x + max_r ReLU(node(f) + edge(f[idx_r] - 2 f)) for every channel f."""
    f = x.flatten(2)
    index = neighbours(f.transpose(1, 2), k)
    exact = torch.promote_types(x.dtype, torch.float32)
    linears = (node_weight, node_bias, edge_weight, edge_bias)
    node_weight, node_bias, edge_weight, edge_bias = (p.to(exact) for p in linears)
    own = F.linear(f, (node_weight - 2 * edge_weight).to(x.dtype), (node_bias + edge_bias).to(x.dtype))
    edge_weight = edge_weight.to(x.dtype)
    best = _edge(f, index[:, :, 0], edge_weight)
    for r in range(1, k):
        best = torch.maximum(best, _edge(f, index[:, :, r], edge_weight))
    return x + torch.relu(own + best).view_as(x)


def _edge(f: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Every map of `f (N, C, D)`, its positions taken from `index (N, D)`, through the edge's `weight`."""
    return F.linear(f.gather(2, index[:, None].expand(-1, f.shape[1], -1)), weight)


def correlation(a: Tensor, b: Tensor, max_displacement: int, stride: int) -> Tensor:
    """Mean over channels of a[y, x] b[y + dy, x + dx] for every displacement, zero outside, `(N, (2R + 1)^2, H, W)`.

    One product gives all pairs of positions; the displacements that can stay inside the map are gathered from it,
    the others are zero without being computed.
    """
    n, c, h, w = a.shape
    reach = max_displacement // stride
    reach_y, reach_x = min(reach, (h - 1) // stride), min(reach, (w - 1) // stride)
    pairs = torch.bmm(a.flatten(2).transpose(1, 2) / c, b.flatten(2))  # (N, D, D)
    index = _targets(h, w, reach_y, reach_x, stride, a.device)  # (D, displacements)
    inside = F.pad(pairs, (0, 1)).gather(2, index.expand(n, -1, -1)).transpose(1, 2)
    inside = inside.reshape(n, 2 * reach_y + 1, 2 * reach_x + 1, h, w)
    margin_y, margin_x = reach - reach_y, reach - reach_x
    return F.pad(inside, (0, 0, 0, 0, margin_x, margin_x, margin_y, margin_y)).flatten(1, 2)


def _targets(h: int, w: int, reach_y: int, reach_x: int, stride: int, device: torch.device) -> Tensor:
    """For every position and displacement the position it leads to, or H W where it leaves the map."""
    dy = torch.arange(-reach_y, reach_y + 1, device=device)[:, None] * stride
    dx = torch.arange(-reach_x, reach_x + 1, device=device)[None, :] * stride
    y = torch.arange(h, device=device)[:, None, None, None] + dy
    x = torch.arange(w, device=device)[None, :, None, None] + dx
    valid = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    return torch.where(valid, y * w + x, h * w).reshape(h * w, -1)
