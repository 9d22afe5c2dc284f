"""CCC: the channel correspondence convolution, an edge convolution on a graph of similar nodes (graph-style)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .params import Params

NORM_FLOOR = 1e-12


def neighbours(nodes: Tensor, k: int) -> Tensor:
    """Return indices `(nodes, k)` of the k nodes most similar to each row of `nodes (nodes, features)`, by cosine."""
    with torch.no_grad():
        length = nodes.norm(dim=1, keepdim=True).clamp_min(NORM_FLOOR)
        unit = nodes / length
        return (unit @ unit.T).topk(k, dim=1).indices


def ccc_paper(params: Params, x: Tensor, k: int) -> Tensor:
    """Apply CCC of the paper to `x (N, C, H, W)`: nodes are channels, E_i = max_j ReLU(node(f_i) + edge(f_j - f_i))."""
    maps = []
    for f in x.flatten(2):  # (C, D), one sample
        nearest = neighbours(f, k)
        edges = []
        for i in range(f.shape[0]):
            node = F.linear(f[i], params["node.weight"], params["node.bias"])
            edge = F.linear(f[nearest[i]] - f[i], params["edge.weight"], params["edge.bias"])
            edges.append(F.relu(node + edge).amax(dim=0))
        maps.append(torch.stack(edges))
    if not maps:
        return x + 0.0
    out = F.conv2d(torch.stack(maps).view_as(x), params["mix.weight"], params["mix.bias"])
    return x + out


def ccc_official(params: Params, x: Tensor, k: int) -> Tensor:
    """Apply CCC of the official code to `x (N, C, H, W)`: nodes are positions, linear layers act on each channel."""
    maps = []
    for f in x.flatten(2):  # (C, D)
        nearest = neighbours(f.T, k)  # (D, k), positions
        channels = []
        for map_ in f:  # (D,)
            node = F.linear(map_, params["node.weight"], params["node.bias"])
            gathered = map_[nearest] - map_[:, None]  # (D, k)
            edge = F.linear(gathered.T - map_, params["edge.weight"], params["edge.bias"])  # (k, D)
            channels.append(F.relu(node + edge).amax(dim=0))
        maps.append(torch.stack(channels))
    if not maps:
        return x + 0.0
    return x + torch.stack(maps).view_as(x)
