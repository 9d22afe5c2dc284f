"""What CCC itself shows: which nodes are chosen as neighbours, and where these move.

Nodes are channels ("paper") or positions ("official"). The evidence belongs to no class.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mol_fast.nn.f5c import CCC
from mol_fast.ops.ccc import neighbours

_FLOOR = 1e-12
_ROUNDING = 1e-6  # of the largest value: what is less is no motion


class Evidence(NamedTuple):
    """Evidence of one block on B windows of P pairs, with V nodes.

    Attributes:
        choices: (B, V, V), the share of pairs in which node i has node j among its neighbours.
        motion: (B, C, h, w), mean over pairs of the distance of a channel from its mean over time.
        places: (B, h, w), where the chosen nodes move; the sum is 1, or 0 if nothing moves.
    """

    choices: Tensor
    motion: Tensor
    places: Tensor


@torch.no_grad()
def evidence(ccc: CCC, maps: Tensor, pairs: int) -> Evidence | None:
    """Return the evidence of a CCC, None if its nodes have no neighbours but themselves.

    Args:
        ccc: the layer.
        maps: (B P, C, h, w), its input.
        pairs: P.
    """
    k, by_channel = ccc.neighbors, ccc.variant == "paper"
    if k < 2:
        return None
    nodes = maps.flatten(2) if by_channel else maps.flatten(2).transpose(1, 2)
    index = neighbours(nodes, k)
    chosen = maps.new_zeros(len(index), index.shape[1], index.shape[1]).scatter_(2, index, 1.0)
    choices = chosen.unflatten(0, (-1, pairs)).mean(1)
    clips = maps.unflatten(0, (-1, pairs))
    motion = (clips - clips.mean(1, keepdim=True)).abs().mean(1)
    motion = (motion - _ROUNDING * clips.abs().amax((1, 2, 3, 4))[:, None, None, None]).relu()
    votes = choices.sum(1)
    places = (votes[:, :, None, None] * motion).sum(1) if by_channel else votes.view_as(motion[:, 0]) * motion.mean(1)
    return Evidence(choices, motion, places / places.sum((1, 2), keepdim=True).clamp_min(_FLOOR))
