"""A shallow network of three streams on the flow from onset to apex.

After Liong, Gan, See, Khor and Huang, "Shallow Triple Stream Three-dimensional CNN (STSTNet) for Micro-expression
Recognition", FG 2019.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.baselines.apex_flow import apex_flow
from mol_fast.baselines.baseline import Baseline

SIDE = 28
"""Width and height of the pictures that the network reads, as published."""
_STREAMS = (3, 5, 8)
"""Filters of the streams, as published."""


class STSTNet(Baseline):
    """Three convolutions side by side, on flow along x, along y, and optical strain of 28 x 28 pixels; then one layer.

    As published: filters of 3 x 3, maximum over 3 x 3, mean over 2 x 2, 400 features. Not published and added here:
    batch normalisation of the input, so that flow in pixels needs no scale, and dropout before the last layer.
    """

    name = "ststnet"
    reads = ("flow",)

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.norm = nn.BatchNorm2d(3)
        self.streams = nn.ModuleList(nn.Conv2d(3, filters, 3, padding=1) for filters in _STREAMS)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(sum(_STREAMS) * 25, num_classes)

    def logits(self, *inputs: Tensor) -> Tensor:
        x = self.norm(flow_and_strain(apex_flow(inputs[0])))
        streams = [F.max_pool2d(F.relu(stream(x)), 3, padding=1) for stream in self.streams]
        features: Tensor = F.avg_pool2d(torch.cat(streams, 1), 2).flatten(1)
        return self.classifier(self.dropout(features))


def flow_and_strain(flow: Tensor) -> Tensor:
    """Return flow along x and y, and optical strain, `(B, 3, 28, 28)`.

    The strain is the size of the symmetric part of the derivatives of the flow.

    Args:
        flow: `(B, 2, H, W)` in pixels.
    """
    down, across = torch.gradient(flow, dim=(2, 3))
    shear = (down[:, 0] + across[:, 1]) / 2
    strain = (across[:, 0].square() + down[:, 1].square() + 2 * shear.square()).sqrt()
    return F.adaptive_avg_pool2d(torch.cat([flow, strain[:, None]], 1), SIDE)
