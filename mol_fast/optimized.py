"""A trained model prepared for inference."""

import copy
from typing import TYPE_CHECKING

import torch

from mol_fast.flow_layers import Conv

if TYPE_CHECKING:
    from mol_fast.model import MOL


def optimized(model: "MOL", dtype: torch.dtype, compile: bool) -> "MOL":
    """See `mol_fast.MOL.optimize_for_inference`."""
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating point, got {dtype}")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Conv):
            module.fold()
    for part in (model.stem, model.flow_head, model.expression_head):
        if part is not None:
            part.to(dtype)
    if model.landmark_head is not None:
        model.landmark_head.conv.to(dtype)
        model.landmark_head.fc1.to(dtype)
    if compile:
        model.compile(fullgraph=True, options={"freezing": True})
    return model
