"""The paper's equations in plain PyTorch, written to be read. All other code is compared with them.

Source: Shao et al., "MOL: Joint Estimation of Micro-Expression, Optical Flow, and Landmark via
Transformer-Graph-Style Convolution", IEEE TPAMI 47(10), 2025. Functions take their parameters as a mapping with the
names of `MOL.state_dict()`. Every index of an equation is a loop.
"""

from .ccc import ccc_official, ccc_paper, neighbours
from .f5c import f5c
from .fcc import fcc
from .flow import correlation, flow_head
from .heads import expression_head, landmark_head, stem
from .losses import Losses, losses, unit_loss
from .model import Output, mol
from .params import sub

__all__ = [
    "Losses",
    "Output",
    "ccc_official",
    "ccc_paper",
    "correlation",
    "expression_head",
    "f5c",
    "fcc",
    "flow_head",
    "landmark_head",
    "losses",
    "mol",
    "neighbours",
    "stem",
    "sub",
    "unit_loss",
]
