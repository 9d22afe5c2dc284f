"""Joint estimation of facial micro-expression, optical flow and landmarks."""

from typing import TYPE_CHECKING, Any

from mol_fast import functional
from mol_fast.nn.config import PRESETS, MOLConfig
from mol_fast.nn.f5c import CCC, F5C, FCC
from mol_fast.nn.losses import JointLoss, LossTerms
from mol_fast.nn.model import MOL, MOLOutput
from mol_fast.nn.official import load_official
from mol_fast.nn.wrapped import load_into
from mol_fast.utils.errors import UserError

if TYPE_CHECKING:
    from mol_fast.explain.explainer import explain
    from mol_fast.prediction.predictor import predict

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
    "UserError",
    "explain",
    "functional",
    "load_into",
    "load_official",
    "predict",
]


def __getattr__(name: str) -> Any:
    """Import `explain` and `predict` on first use: they need OpenCV, unlike everything else here."""
    if name == "explain":
        from mol_fast.explain.explainer import explain

        return explain
    if name == "predict":
        from mol_fast.prediction.predictor import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
