"""Joint estimation of facial micro-expression, optical flow and landmarks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mol_fast import functional
    from mol_fast.explain.explainer import explain
    from mol_fast.nn.config import PRESETS, MOLConfig
    from mol_fast.nn.f5c import CCC, F5C, FCC
    from mol_fast.nn.losses import JointLoss, LossTerms
    from mol_fast.nn.model import MOL, MOLOutput, MOLUnitsOutput
    from mol_fast.nn.official import load_official
    from mol_fast.nn.wrapped import load_into
    from mol_fast.prediction.predictor import predict
    from mol_fast.prediction.single_tasks import flow, landmarks
    from mol_fast.utils.errors import UserError

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
    "MOLUnitsOutput",
    "UserError",
    "explain",
    "flow",
    "functional",
    "landmarks",
    "load_into",
    "load_official",
    "predict",
]

_PLACES = {
    "explain.explainer": ("explain",),
    "nn.config": ("PRESETS", "MOLConfig"),
    "nn.f5c": ("CCC", "F5C", "FCC"),
    "nn.losses": ("JointLoss", "LossTerms"),
    "nn.model": ("MOL", "MOLOutput", "MOLUnitsOutput"),
    "nn.official": ("load_official",),
    "nn.wrapped": ("load_into",),
    "prediction.predictor": ("predict",),
    "prediction.single_tasks": ("flow", "landmarks"),
    "utils.errors": ("UserError",),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that programs start without PyTorch where they can."""
    if name == "functional":
        return import_module("mol_fast.functional")
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"mol_fast.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
