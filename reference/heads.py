"""The stem before the F5C blocks, and the landmark and expression heads after them."""

import torch.nn.functional as F
from torch import Tensor

from .params import Params


def stem(params: Params, frame: Tensor, activation: bool) -> Tensor:
    """Apply four convolutions, `(B, 1, 128, 128) -> (B, 128, 16, 16)`; `activation`: a ReLU after the first three."""
    x = frame
    for name, stride, padding in (("conv1", 2, 0), ("conv2", 2, 0), ("conv3", 2, 1)):
        x = F.conv2d(x, params[f"{name}.weight"], params[f"{name}.bias"], stride=stride, padding=padding)
        if activation:
            x = F.relu(x)
    return F.conv2d(x, params["conv4.weight"], params["conv4.bias"])


def landmark_head(params: Params, features: Tensor) -> Tensor:
    """Predict 68 landmarks (x, y) in pixels of the crop, `(B, 128, 16, 16) -> (B, 68, 2)`."""
    x = F.relu(F.conv2d(features, params["conv.weight"], params["conv.bias"]))
    x = F.relu(F.linear(x.flatten(1), params["fc1.weight"], params["fc1.bias"]))
    return F.linear(x, params["fc2.weight"], params["fc2.bias"]).view(-1, 68, 2)


def expression_head(params: Params, sequence: Tensor, training: bool, dropout: float) -> Tensor:
    """Predict class logits `(B, K)` from the maps of a clip, stacked as depth, `sequence (B, 128, 16, 16, 2(T-1))`."""
    x = F.conv3d(sequence, params["conv.weight"], params["conv.bias"], stride=(2, 2, 1))
    x = F.dropout(F.max_pool3d(x, 2), dropout, training)
    x = F.relu(F.linear(x.flatten(1), params["fc1.weight"], params["fc1.bias"]))
    return F.linear(F.dropout(x, dropout, training), params["fc2.weight"], params["fc2.bias"])
