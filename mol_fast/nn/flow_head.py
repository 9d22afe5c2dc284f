"""The optical flow head: FlowNetC with injected features of the F5C blocks (MOL paper, optical flow estimation).

Shapes: B clips, T frames, P = T - 1 pairs. All frames pass the encoder as one batch, all pairs pass the rest.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mol_fast.functional import correlation
from mol_fast.nn import layout
from mol_fast.nn.config import FEATURE_SIZE
from mol_fast.nn.flow_layers import SLOPE, Conv, Deconv, Predict, leaky_relu
from mol_fast.nn.norm import kept_statistics
from mol_fast.nn.plain import is_plain

REACH, STRIDE = 10, 2
DISPLACEMENTS = (2 * REACH + 1) ** 2
"""Displacements of FlowNetC's correlation, hence input channels of conv3_1: up to 10 steps of 2 cells each way."""
INSIDE = (FEATURE_SIZE - 1) // STRIDE
"""Largest number of steps that stays inside the map."""
DIFFERENCE_SCALE = 8.0
"""Factor that scales frame differences of a micro-expression to the size of the frames."""


def with_difference(clip: Tensor) -> Tensor:
    """Add a second channel to `clip (B, 1, T, H, W)`: the scaled difference of each frame to the next.

    The last frame repeats the difference before it. The result is channels last in memory.
    """
    difference = DIFFERENCE_SCALE * clip.diff(dim=2)
    return torch.stack([clip, torch.cat([difference, difference[:, :, -1:]], dim=2)], dim=5).squeeze(1).movedim(-1, 1)


def _inside(weight: Tensor) -> Tensor:
    """Select the input channels `(dy, dx)` of `weight` whose displacement can stay inside the map."""
    side, kept = 2 * REACH + 1, slice(REACH - INSIDE, REACH + INSIDE + 1)
    return weight.unflatten(1, (side, side))[:, kept, kept].flatten(1, 2)


class FlowHead(nn.Module):
    """Flow head: flow t -> t+1 in pixels for every pair of a clip.

    The last predictor starts at zero, so training starts at the zero-flow error. Displacements that always leave the
    map are not computed, though the weight of conv3_1 has the paper's shape. If the attribute `recompute` is set, the
    backward pass recomputes activations, half of the head at a time.

    Args:
        features: channels of the injected feature maps.
        inputs: channels of a frame; 2 with its difference to the next.
        width: width of every layer, relative to the paper.
        frame_stats: use batch statistics per frame index instead of over all frames.
        backend: backend of the correlation.
    """

    recompute = False

    def __init__(
        self, features: int, inputs: int = 1, width: float = 1.0, frame_stats: bool = False, backend: str = "auto"
    ) -> None:
        super().__init__()
        self.frame_stats, self.backend = frame_stats, backend

        def w(channels: int) -> int:
            return max(1, round(width * channels))

        self.conv1 = Conv(inputs, w(64), 6, 2)
        self.conv2 = Conv(w(64), w(128), 4, 2)
        self.conv3 = Conv(w(128), w(256), 2, 2)
        self.conv_redir = Conv(w(256), w(32), 1)
        self.conv3_1 = Conv(w(32) + DISPLACEMENTS + 2 * features, w(256), 3)
        self.conv4, self.conv4_1 = Conv(w(256), w(512), 3, 2), Conv(w(512), w(512), 3)
        self.conv5, self.conv5_1 = Conv(w(512), w(512), 3, 2), Conv(w(512), w(512), 3)
        self.conv6, self.conv6_1 = Conv(w(512), w(1024), 3, 2), Conv(w(1024), w(1024), 3)
        # The decoder brings level L+1 to level L, where it is joined with the encoder's map.
        skips = (w(512), w(512), w(256), w(128), w(64), inputs)
        outputs = (w(512), w(256), w(128), w(128), w(64), w(32))
        channels = w(1024)
        for level, skip, output in zip(range(5, -1, -1), skips, outputs, strict=True):
            self.add_module(f"predict{level + 1}", Predict(channels))
            self.add_module(f"up{level + 1}", Deconv(2, 2))
            self.add_module(f"deconv{level}", Deconv(channels, output))
            channels = skip + output + 2
        self.predict0 = Predict(channels)
        nn.init.zeros_(self.predict0.weight)
        layout.channels_last(self)

    def forward(self, clip: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Predict flow `(B, 2, P, H, W)` from `clip (B, inputs, T, H, W)` and features of frames t and t+1.

        Args:
            clip: the frames.
            first, second: features of the first and second frame of each pair, `(B P, C, h, w)`.
        """
        maps = self._part(self._encode, clip, first, second)
        flow: Tensor = self._part(self._decode, *maps)
        return rearrange(flow, "(b p) c h w -> b c p h w", p=clip.shape[2] - 1)

    def padded_channels(self) -> dict[nn.Module, tuple[int, int]]:
        """Return padded channel counts of weights, for `CastWeights`, so that all are multiples of 8 on a GPU.

        Flow then has eight channels, six of them zero, and the maps it is joined with have six more. If this would not
        make all counts multiples of 8, or a layer has hooks or was replaced, the result is empty.
        """
        layers = [
            [self.get_submodule(name) for name in (f"predict{level}", f"up{level}", f"deconv{level - 1}")]
            for level in range(6, 0, -1)
        ]
        counts: dict[nn.Module, tuple[int, int]] = {}
        for joined, (predict, up, deconv) in zip((0, 2, 2, 2, 2, 2), layers, strict=True):
            plain = is_plain(predict, Predict) and is_plain(up, Deconv) and is_plain(deconv, Deconv)
            if not plain or not isinstance(deconv, Deconv):
                return {}
            inputs, outputs = deconv.in_channels, deconv.out_channels
            if (inputs - joined) % layout.CHANNELS:
                return {}
            wide = layout.padded(inputs)
            counts |= {predict: (layout.CHANNELS, wide), up: (layout.CHANNELS,) * 2, deconv: (wide, outputs)}
        return counts

    def _part(self, part: Callable[..., Any], *inputs: Tensor) -> Any:
        if not (self.recompute and torch.is_grad_enabled()):
            return part(*inputs)
        return checkpoint(
            part,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), kept_statistics(self)),
        )

    def _encode(self, clip: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return the coarsest map of each pair, and the maps `(B, P, h, w, C)` that the decoder joins.

        Maps of frames are views, which are copied when they are joined.
        """
        b, _, t = clip.shape[:3]
        frames = rearrange(clip, "b c t h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        order = [frame for pair in range(t - 1) for frame in (pair, pair + 1)] if self.frame_stats else [0]
        conv1 = self.conv1(frames, order)
        conv2 = self.conv2(conv1, order)
        conv3 = self.conv3(conv2, order)

        def earlier(x: Tensor, start: int = 0) -> Tensor:
            return x.permute(0, 2, 3, 1).unflatten(0, (b, t))[:, start : start + t - 1]

        def both(x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1).unflatten(0, (b, t - 1))

        pairs = list(range(t - 1)) if self.frame_stats else [0]
        conv3_t, conv3_t1 = (earlier(conv3, start).flatten(0, 1).permute(0, 3, 1, 2) for start in (0, 1))
        redir = self.conv_redir(conv3_t, pairs)
        plain = self.conv3_1.plain()
        reach = INSIDE if plain else REACH  # a layer that is called wants all its input channels
        cost = correlation(conv3_t, conv3_t1, reach * STRIDE, STRIDE, negative_slope=SLOPE, backend=self.backend)
        channels_last = [x.to(cost.dtype).permute(0, 2, 3, 1) for x in (redir, cost, first, second)]
        weight = None
        if plain:
            weights = list(self.conv3_1.conv.weight.split([redir.shape[1], DISPLACEMENTS, 2 * first.shape[1]], dim=1))
            weights[1] = _inside(weights[1])
            missing = -sum(part.shape[1] for part in weights) % layout.CHANNELS
            if missing and layout.on_gpu(cost):
                channels_last.append(cost.new_zeros(1).expand(*channels_last[0].shape[:3], missing))
                weights.append(weights[0].new_zeros(1).expand(len(weights[0]), missing, *weights[0].shape[2:]))
            weight = torch.cat(weights, dim=1)
        maps = torch.cat(channels_last, dim=3).permute(0, 3, 1, 2)
        conv3_1 = self.conv3_1(maps, pairs, weight)
        conv4_1 = self.conv4_1(self.conv4(conv3_1, pairs), pairs)
        conv5_1 = self.conv5_1(self.conv5(conv4_1, pairs), pairs)
        conv6_1 = self.conv6_1(self.conv6(conv5_1, pairs), pairs)
        return conv6_1, both(conv5_1), both(conv4_1), both(conv3_1), earlier(conv2), earlier(conv1), earlier(frames)

    def _decode(self, x: Tensor, *skips: Tensor) -> Tensor:
        for level, skip in zip(range(5, -1, -1), skips, strict=True):
            flow = self.get_submodule(f"up{level + 1}")(self.get_submodule(f"predict{level + 1}")(x))
            deconv = self.get_submodule(f"deconv{level}")
            x = leaky_relu(deconv(x), overwrite=is_plain(deconv, Deconv))
            if level:
                x = _joined(skip, x, flow)
        if not is_plain(self.predict0, Predict):
            return self.predict0(_joined(skip, x, flow[:, :2]))
        return self.predict0(x, _joined(skip, flow[:, :2]), skip.shape[4])


def _joined(skip: Tensor, *maps: Tensor) -> Tensor:
    """Concatenate `skip (B, P, h, w, C)` and other maps `(B P, C, h, w)` to one map `(B P, C, h, w)`."""
    parts = [skip.to(maps[0].dtype), *(x.permute(0, 2, 3, 1).unflatten(0, skip.shape[:2]) for x in maps)]
    return torch.cat(parts, dim=4).flatten(0, 1).permute(0, 3, 1, 2)
