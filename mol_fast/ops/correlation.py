"""Correlation of two maps in batched PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def correlation(a: Tensor, b: Tensor, max_displacement: int, stride: int) -> Tensor:
    """Return the mean over channels of a[y, x] b[y + dy, x + dx] for every displacement, `(N, (2R + 1)^2, H, W)`.

    One product computes all pairs of positions. Displacements that can stay inside the map are gathered from it; the
    others are zero and need no computation.
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
    """Return the target position of every position and displacement, or H W if it is outside the map."""
    dy = torch.arange(-reach_y, reach_y + 1, device=device)[:, None] * stride
    dx = torch.arange(-reach_x, reach_x + 1, device=device)[None, :] * stride
    y = torch.arange(h, device=device)[:, None, None, None] + dy
    x = torch.arange(w, device=device)[None, :, None, None] + dx
    valid = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    return torch.where(valid, y * w + x, h * w).reshape(h * w, -1)
