"""The backends under comparison, and a module's implementation on each."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from harness.compare import Params, state
from torch import Tensor, nn

from mol_fast.functional import HAS_TRITON
from mol_fast.utils.bfloat16 import emulates_bfloat16

BACKENDS = ("reference", "torch", "torch.compile", "triton")
"""Loops of the reference, batched PyTorch, compiled PyTorch, Triton kernels."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Device of all benchmarks: a GPU if there is one."""
DTYPES = (torch.float32, torch.bfloat16)
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Implementation:
    """A function of maps or clips, with the parameters and buffers it uses."""

    forward: Callable[[Tensor], Any]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]


def on_backend(module: N, backend: str) -> N:
    """Return a copy of `module` with operators of PyTorch or Triton."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if hasattr(part, "backend"):
            part.backend = "triton" if backend == "triton" else "torch"
    return module


def of_module(module: nn.Module, backend: str) -> Implementation:
    """Return the implementation of a copy of `module` on a backend in PyTorch or Triton."""
    module = on_backend(module, backend)
    if backend == "torch.compile":
        torch._dynamo.reset()  # modules share compiled code, and a call would try the graphs of all of them
    forward = torch.compile(module, fullgraph=True) if backend == "torch.compile" else module
    kept = module.state_dict().keys()
    buffers = {name: value for name, value in module.named_buffers() if name in kept}
    return Implementation(forward, dict(module.named_parameters()), buffers)


def of_loops(
    function: Callable[[Params, Tensor], Any], module: nn.Module, dtype: torch.dtype | None = None
) -> Implementation:
    """Return the implementation by a function of the reference, with copies of `module`'s parameters in `dtype`."""
    params = state(module, dtype)
    parameters = {name: value for name, value in params.items() if value.requires_grad}
    buffers = {name: value for name, value in params.items() if not value.requires_grad}
    return Implementation(lambda x: function(params, x), parameters, buffers)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return a context for arithmetic in `dtype` with float32 parameters; no effect for float32 and float64."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def unavailable(backend: str, dtype: torch.dtype) -> str | None:
    """Return the reason why `backend` cannot run here in `dtype`, or None."""
    if backend == "triton" and DEVICE.type != "cuda":
        return "the Triton kernels need a GPU, there is none here"
    if backend == "triton" and not HAS_TRITON:
        return "the package triton is not installed"
    if dtype == torch.bfloat16 and emulates_bfloat16(DEVICE):
        return "this CPU has no instructions for bfloat16 and would emulate it"
    return None


def skipped(reason: str | None) -> list[pytest.MarkDecorator]:
    """Return the marks of a case that is skipped for `reason`; no marks for None."""
    return [] if reason is None else [pytest.mark.skip(reason)]
