"""The optical flow head: FlowNetC on one pair of frames, with injected features of the F5C blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .norm import batch_norm
from .params import Params, sub

SLOPE = 0.1


def correlation(a: Tensor, b: Tensor, max_displacement: int = 20, stride: int = 2) -> Tensor:
    """Correlate two maps `(N, C, H, W)`.

    out[n, (dy, dx), y, x] = mean_c a[n, c, y, x] b[n, c, y + stride dy, x + stride dx], zero outside, dy outer.
    """
    n, _, height, width = a.shape
    reach = max_displacement // stride
    maps = []
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = stride * dy, stride * dx
            out = a.new_zeros(n, height, width)
            top, bottom = max(0, -y), min(height, height - y)
            left, right = max(0, -x), min(width, width - x)
            if top < bottom and left < right:
                shifted = b[:, :, top + y : bottom + y, left + x : right + x]
                out[:, top:bottom, left:right] = (a[:, :, top:bottom, left:right] * shifted).mean(dim=1)
            maps.append(out)
    return torch.stack(maps, dim=1)


def conv(params: Params, x: Tensor, stride: int, training: bool) -> Tensor:
    """Apply a convolution without bias, batch normalisation and LeakyReLU."""
    weight = params["conv.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2)
    return F.leaky_relu(batch_norm(sub(params, "norm"), x, training), SLOPE)


def encode(params: Params, frame: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the first three convolutions to one frame of a pair."""
    conv1 = conv(sub(params, "conv1"), frame, 2, training)
    conv2 = conv(sub(params, "conv2"), conv1, 2, training)
    return conv1, conv2, conv(sub(params, "conv3"), conv2, 2, training)


def decode(params: Params, maps: list[Tensor]) -> Tensor:
    """Decode the coarsest map to full resolution. `maps` are the encoder's, coarsest first, the frame last."""
    x = maps[0]
    for level, skip in zip((5, 4, 3, 2, 1, 0), maps[1:], strict=True):
        flow = F.conv2d(x, params[f"predict{level + 1}.weight"], padding=1)
        flow = F.conv_transpose2d(flow, params[f"up{level + 1}.weight"], stride=2, padding=1)
        x = F.leaky_relu(F.conv_transpose2d(x, params[f"deconv{level}.weight"], stride=2, padding=1), SLOPE)
        x = torch.cat([skip, x, flow], dim=1)
    return F.conv2d(x, params["predict0.weight"], padding=1)


def flow_head(
    params: Params, frame_t: Tensor, frame_t1: Tensor, feature_t: Tensor, feature_t1: Tensor, training: bool
) -> Tensor:
    """Predict flow t -> t+1 in pixels, `(B, 2, H, W)`, channel 0 along x, from two frames and their features.

    Frames are `(B, 1, H, W)`, or `(B, 2, H, W)` with their difference to the next frame as second channel.
    """
    conv1, conv2, conv3_t = encode(params, frame_t, training)
    _, _, conv3_t1 = encode(params, frame_t1, training)
    redir = conv(sub(params, "conv_redir"), conv3_t, 1, training)
    cost = F.leaky_relu(correlation(conv3_t, conv3_t1), SLOPE)
    x = torch.cat([redir, cost, feature_t, feature_t1], dim=1)
    conv3_1 = conv(sub(params, "conv3_1"), x, 1, training)
    conv4_1 = conv(sub(params, "conv4_1"), conv(sub(params, "conv4"), conv3_1, 2, training), 1, training)
    conv5_1 = conv(sub(params, "conv5_1"), conv(sub(params, "conv5"), conv4_1, 2, training), 1, training)
    conv6_1 = conv(sub(params, "conv6_1"), conv(sub(params, "conv6"), conv5_1, 2, training), 1, training)
    return decode(params, [conv6_1, conv5_1, conv4_1, conv3_1, conv2, conv1, frame_t])
