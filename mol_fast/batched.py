"""The F5C block and the correlation as batched PyTorch: the path of every device without Triton.

Shapes: N maps, C channels of H x W, D = H W, G statistics groups (map n belongs to group n mod G).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast.branch import FCCBranch
from mol_fast.edges import edge_max

NORM_FLOOR = 1e-12
FEW = 8
"""Neighbours up to which they are selected one by one."""


def circulant(kernel: Tensor) -> Tensor:
    """Matrices `A (C, L, L)` of the circular convolutions by `kernel (C, L)`: (A u)_i = sum_s kernel_s u_(i+s)."""
    channels, length = kernel.shape
    # A[i, m] = kernel[(m - i) mod L]: without the last column, row after row, that is the kernel over and over.
    first = kernel.repeat(1, length - 1).view(channels, length, length - 1)
    return torch.cat([first, kernel.flip(1)[:, :, None]], dim=2)


def batch_statistics(x: Tensor, vh_pos: Tensor, hv_pos: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance `(G, C)` of x plus the positions of the two halves."""
    frames, positions = x.unflatten(0, (-1, groups)), _halves(vh_pos, hv_pos, *x.shape[2:])
    mean = _mean(frames, positions)
    return mean, _over_maps(_centred(frames, positions, mean).square())


def _halves(rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Maps `(C, H, W)`: one half with equal columns `rows (C/2, H)`, the other with equal rows `columns (C/2, W)`."""
    return torch.cat([rows[:, :, None].expand(-1, -1, width), columns[:, None, :].expand(-1, height, -1)])


def _over_maps(frames: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Mean `(G, C)` of `frames (N / G, G, C, H, W)`; one map at a time, as one long sum would lose two digits."""
    return frames.mean(dim=(3, 4), dtype=dtype).mean(dim=0)


def _mean(frames: Tensor, positions: Tensor) -> Tensor:
    return _over_maps(frames, positions.dtype) + positions.mean(dim=(1, 2))


def _centred(frames: Tensor, positions: Tensor, mean: Tensor) -> Tensor:
    """In the precision of the positions, which is float32 or better."""
    return frames + (positions - mean[:, :, None, None])


class _Normalise(torch.autograd.Function):
    """Frames plus positions `(C, H, W)`, batch-normalised, and the mean and biased variance `(G, C)`.

    Autograd of these steps would do the same in several times the memory traffic. `bias` gets no gradient.
    """

    @staticmethod
    def forward(
        frames: Tensor, positions: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _mean(frames, positions)
        centred = _centred(frames, positions, mean)
        var = _over_maps(centred.square())
        scale = weight * torch.rsqrt(var + eps)
        return centred * scale[:, :, None, None] + bias[:, None, None], mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        frames, positions, weight, _, ctx.eps = inputs
        ctx.save_for_backward(frames, positions, weight, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, d_mean: Tensor, d_var: Tensor) -> tuple[Tensor | None, ...]:
        frames, positions, weight, mean, var = ctx.saved_tensors
        count = frames[:, 0, 0].numel()
        centred = _centred(frames, positions, mean)
        deviation = torch.rsqrt(var + ctx.eps)
        scale = weight * deviation
        along, total = _over_maps(grad * centred), _over_maps(grad)
        d_mean = d_mean / count - total * scale
        d_var = 2 * d_var / count - along * scale * deviation.square()
        d_frames = centred * d_var[:, :, None, None] + d_mean[:, :, None, None] + grad * scale[:, :, None, None]
        return d_frames, d_frames.sum(dim=(0, 1)), count * (along * deviation).sum(dim=0), None, None


def _normalise(
    frames: Tensor, vh: FCCBranch, hv: FCCBranch, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Frames plus the first positions, batch-normalised, and the mean and variance `(G, C)` that were used.

    The biases get no gradient here, but in `_constant`.
    """
    positions = _halves(vh.pos1, hv.pos1, *frames.shape[3:])
    weight, bias = torch.cat([vh.weight, hv.weight]), torch.cat([vh.bias, hv.bias]).detach()
    if mean is None or var is None:
        if frames.numel():
            return _Normalise.apply(frames, positions, weight, bias, eps)
        mean, var = (positions.new_full(frames.shape[1:3], value) for value in (0.0, 1.0))
    mean, var = mean.to(positions.dtype), var.to(positions.dtype)
    scale = weight * torch.rsqrt(var + eps)
    return _centred(frames, positions, mean) * scale[:, :, None, None] + bias[:, None, None], mean, var


def _constant(branch: FCCBranch) -> Tensor:
    """What the biases of a branch add to all of a plane, `(C/2,)`.

    That of the normalisation is in the planes already. Its gradient goes this way, where in half precision it does not
    suffer from the rounding of every cell.
    """
    bias = branch.bias - branch.bias.detach()
    return (bias * branch.kernel1.sum(dim=1) + branch.bias1) * branch.kernel2.sum(dim=1) + branch.bias2


def fcc(
    x: Tensor, vh: FCCBranch, hv: FCCBranch, mean: Tensor | None, var: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """FCC as x + A Z B^T + Y, Z being x with the first positions, normalised; see `mol_fast.functional.fcc`.

    Y does not depend on x: the second positions through the second kernel, plus bias1 sum(kernel2) + bias2.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    vh, hv = (FCCBranch(*(p.to(exact) for p in branch)) for branch in (vh, hv))
    half, (n, c, h, w) = vh.kernel1.shape[0], x.shape
    z, mean, var = _normalise(x.unflatten(0, (n // groups, groups)), vh, hv, mean, var, eps)
    a = circulant(torch.cat([vh.kernel1, hv.kernel2]))
    b = circulant(torch.cat([vh.kernel2, hv.kernel1])).transpose(1, 2)
    planes = z.flatten(0, 1).permute(1, 2, 0, 3).to(x.dtype, memory_format=torch.contiguous_format)  # (C, H, N, W)
    y = torch.bmm(a.to(x.dtype), planes.reshape(c, h, n * w)).view(c, h * n, w)
    y = torch.bmm(y, b.to(x.dtype)).view(c, h, n, w)
    columns = torch.bmm(vh.pos2[:, None], b[:half]) + _constant(vh)[:, None, None]
    rows = torch.bmm(a[half:], hv.pos2[:, :, None]) + _constant(hv)[:, None, None]
    second = torch.cat([columns.expand(-1, h, -1), rows.expand(-1, -1, w)]).to(x.dtype)
    return (x + y.permute(2, 0, 1, 3)).add_(second), mean, var


def neighbours(nodes: Tensor, k: int) -> Tensor:
    """Indices `(N, V, k - 1)` of the nodes most similar to each of the V `nodes (N, V, features)`, most similar first.

    By cosine similarity, without the node itself, which always counts as the first. The order matters between
    positions, where a linear mixes the r-th neighbours of all nodes. Similarities are computed in float32 or better
    whatever the input, without gradient.
    """
    with torch.no_grad():
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        products = torch.bmm(nodes, nodes.transpose(1, 2))
        # The norm of the node that looks for neighbours is the same for all of them, and left out.
        if torch.compiler.is_compiling() and 1 < k <= FEW + 1:
            return _largest_of_columns(products * _inverse_norm(nodes.square().sum(dim=2))[:, :, None], k - 1)
        similarity = products * _inverse_norm(products.diagonal(dim1=1, dim2=2))[:, None]
        similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        return _largest(similarity, k - 1)


def _inverse_norm(squares: Tensor) -> Tensor:
    return squares.clamp_min(NORM_FLOOR**2).rsqrt()


def _largest(values: Tensor, count: int) -> Tensor:
    """Indices of the largest along the last dimension, the largest first; `values` are overwritten.

    For few of them repeated maxima take half the time of a selection. Compiled: `_largest_of_columns`.
    """
    if not 0 < count <= FEW:
        return values.topk(count, dim=-1).indices
    indices = [values.max(dim=-1, keepdim=True).indices]
    while len(indices) < count:
        values.scatter_(-1, indices[-1], -torch.inf)
        indices.append(values.max(dim=-1, keepdim=True).indices)
    return torch.cat(indices, dim=-1)


def _largest_of_columns(values: Tensor, count: int) -> Tensor:
    """Indices `(N, V, count)` of the largest of every column of `values (N, V, V)`, without those on the diagonal.

    For the compiler, which makes vector instructions of maxima across rows and of masks, but not of `_largest`.
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
    """CCC between channels: x + mix(ReLU(P + max_j Q_j)), P = F (W_n - W_e)^T, Q = F W_e^T + b_n + b_e."""
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
    """CCC between positions, as released: x + max_r ReLU(node(f) + edge(f[idx_r] - 2 f)) for every channel f."""
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
    inside = F.pad(pairs, (0, 1)).gather(2, index.expand(n, -1, -1)).transpose(1, 2).unflatten(2, (h, w))
    margin_y, margin_x = reach - reach_y, reach - reach_x
    if margin_y == margin_x == 0:
        return inside
    inside = inside.unflatten(1, (2 * reach_y + 1, 2 * reach_x + 1))
    return F.pad(inside, (0, 0, 0, 0, margin_x, margin_x, margin_y, margin_y)).flatten(1, 2)


def _targets(h: int, w: int, reach_y: int, reach_x: int, stride: int, device: torch.device) -> Tensor:
    """For every position and displacement the position it leads to, or H W where it leaves the map."""
    dy = torch.arange(-reach_y, reach_y + 1, device=device)[:, None] * stride
    dx = torch.arange(-reach_x, reach_x + 1, device=device)[None, :] * stride
    y = torch.arange(h, device=device)[:, None, None, None] + dy
    x = torch.arange(w, device=device)[None, :, None, None] + dx
    valid = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    return torch.where(valid, y * w + x, h * w).reshape(h * w, -1)
