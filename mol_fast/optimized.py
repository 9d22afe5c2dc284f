"""A trained model prepared for inference."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from mol_fast.flow_layers import Conv
from mol_fast.utils.bfloat16 import emulates_bfloat16, warn_emulated

if TYPE_CHECKING:
    from mol_fast.model import MOL


def optimized(model: "MOL", dtype: torch.dtype, compile: bool) -> "MOL":
    """See `mol_fast.MOL.optimize_for_inference`."""
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating point, got {dtype}")
    if dtype == torch.bfloat16 and emulates_bfloat16(next(model.parameters()).device):
        warn_emulated()
    model = copy.deepcopy(model).eval().requires_grad_(False)
    model.to(torch.promote_types(dtype, torch.float32))
    for module in model.modules():
        if isinstance(module, Conv):
            module.fold()
    if model.flow_head is not None:
        model.flow_head.recompute = False
        model.flow_head.to(dtype)
    if model.landmark_head is not None:
        model.landmark_head.conv.to(dtype)
        model.landmark_head.fc1.to(dtype)
    model.stem.to(dtype)
    model.expression_head.to(dtype)
    if compile:
        model.compile(dynamic=False)
        model._compiled_call_impl = _frozen(model._compiled_call_impl)  # type: ignore[arg-type]
    return model


def _frozen(call: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled call that takes weights for constants.

    The option of `torch.compile` for that is not enough, as it is not yet in force where parameters become inputs.
    """
    import torch._inductor.config as compiler  # which takes a second

    def run(*args: Any, **kwargs: Any) -> Any:
        with compiler.patch(freezing=True):
            return call(*args, **kwargs)

    return run
