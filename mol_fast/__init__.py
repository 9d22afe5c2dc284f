"""Joint estimation of facial micro-expression, optical flow and landmarks."""

from . import functional
from .config import PRESETS, MOLConfig
from .layers import CCC, F5C, FCC
from .losses import JointLoss, LossTerms
from .model import MOL, MOLOutput
from .official import load_official

__version__ = "0.1.0"

__all__ = [
    "CCC",
    "F5C",
    "FCC",
    "MOL",
    "PRESETS",
    "JointLoss",
    "LossTerms",
    "MOLConfig",
    "MOLOutput",
    "functional",
    "load_official",
]
