"""Flow from the onset of a clip to its apex, which several baselines read."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def apex_flow(flow: Tensor) -> Tensor:
    """Return the motion `(B, 2, H, W)` from the first frame of a clip to its apex, in pixels.

    The flow between consecutive frames is composed: each point is followed from frame to frame. The apex is the frame
    to which the face has moved most since the first one; prepared sets do not tell the annotated apex.

    Args:
        flow: `(B, 2, T-1, H, W)` from each frame to the next, in pixels, channel 0 along x.
    """
    moved = [flow[:, :, 0]]
    for pair in flow.unbind(2)[1:]:
        moved.append(moved[-1] + sample(pair, moved[-1].movedim(1, -1) + _pixels(pair)))
    motions = torch.stack(moved, 1)  # (B, T-1, 2, H, W)
    apex = motions.square().sum(2).mean((2, 3)).argmax(1)
    return motions[torch.arange(len(flow), device=flow.device), apex]


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps `(B, C, H, W)` at points `(B, h, w, 2)`, (x, y) in pixels, between pixels and at the nearest border."""
    size = torch.tensor([maps.shape[-1], maps.shape[-2]], device=maps.device)
    return F.grid_sample(maps, (2 * points + 1) / size - 1, padding_mode="border", align_corners=False)


def _pixels(maps: Tensor) -> Tensor:
    """Return the coordinates (x, y) of all pixels, `(H, W, 2)`."""
    rows, columns = (torch.arange(length, device=maps.device) for length in maps.shape[-2:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1).to(maps.dtype)
