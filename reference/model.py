"""The whole network, pair by pair of consecutive frames."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .f5c import f5c
from .flow import flow_head
from .heads import expression_head, landmark_head, stem
from .params import Params, sub


@dataclass
class Output:
    """Output: `logits (B, K)`, `flow (B, 2, T-1, H, W)` in pixels, `landmarks (B, T-1, 68, 2)` in pixels."""

    logits: Tensor
    flow: Tensor
    landmarks: Tensor


def mol(
    params: Params,
    clip: Tensor,
    k: int,
    variant: str,
    training: bool,
    dropout: float = 0.5,
    feature_scale: float | None = None,
    difference_scale: float | None = None,
) -> Output:
    """Apply MOL to `clip (B, 1, T, H, W)`. The paper's exact form has neither of the two scales.

    With `feature_scale`, the mean over time is subtracted from the features of each block and the rest is multiplied by
    it, before the flow and expression heads. With `difference_scale`, the flow head also reads frame differences,
    multiplied by it.
    """
    pairs = range(clip.shape[2] - 1)
    first: list[Tensor] = []
    second: list[Tensor] = []
    for t in pairs:
        for block, maps, frame in (
            ("f5c_first", first, clip[:, :, t]),
            ("f5c_second", second, clip[:, :, t + 1]),
        ):
            x = stem(sub(params, "stem"), frame, activation=variant == "paper")
            maps.append(f5c(sub(params, block), x, k, variant, training))
    landmarks = [landmark_head(sub(params, "landmark_head"), second[t]) for t in pairs]
    if feature_scale is not None:
        first, second = centre(first, feature_scale), centre(second, feature_scale)
    flow_params = sub(params, "flow_head")
    seen = clip if difference_scale is None else beside_difference(clip, difference_scale)
    flow = [flow_head(flow_params, seen[:, :, t], seen[:, :, t + 1], first[t], second[t], training) for t in pairs]
    sequence = torch.stack([maps[t] for t in pairs for maps in (first, second)], dim=-1)
    logits = expression_head(sub(params, "expression_head"), sequence, training, dropout)
    return Output(logits, torch.stack(flow, dim=2), torch.stack(landmarks, dim=1))


def beside_difference(clip: Tensor, scale: float) -> Tensor:
    """Return `(B, 2, T, H, W)`: every frame, and `scale` (next frame - frame); the last repeats the one before."""
    last = clip.shape[2] - 1
    frames = []
    for t in range(last + 1):
        start = min(t, last - 1)
        frames.append(torch.cat([clip[:, :, t], scale * (clip[:, :, start + 1] - clip[:, :, start])], dim=1))
    return torch.stack(frames, dim=2)


def centre(maps: list[Tensor], scale: float) -> list[Tensor]:
    """Subtract the mean over time from each map, and multiply by `scale`."""
    mean = torch.stack(maps).mean(dim=0)
    return [scale * (x - mean) for x in maps]
