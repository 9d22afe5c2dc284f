"""The backends side by side: how each makes a function to time of an operator and its problem."""

import copy
from collections.abc import Callable

import pytest
import torch
from compare import state
from gate import Results
from operators import Problem
from torch import Tensor, nn

from mol_fast.functional import HAS_TRITON

BACKENDS = ("reference", "torch", "torch.compile", "triton")
"""The literal loops; batched PyTorch; the same compiled; the Triton kernels."""
DTYPES = (torch.float32, torch.bfloat16)

torch._dynamo.config.recompile_limit = 256  # modules of many benchmarks share the code that is compiled


def skip_unavailable(backend: str, device: torch.device) -> None:
    if backend == "triton" and device.type != "cuda":
        pytest.skip("the Triton kernels need a GPU, there is none here")
    if backend == "triton" and not HAS_TRITON:
        pytest.skip("the package triton is not installed")


def prepare(module: nn.Module, backend: str) -> nn.Module:
    """A copy of `module` that runs on `backend`, one of those in PyTorch or Triton."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if hasattr(part, "backend"):
            part.backend = "triton" if backend == "triton" else "torch"
    return module


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, fullgraph=True)  # type: ignore[return-value]


def candidate(problem: Problem, backend: str, dtype: torch.dtype) -> Callable[[], Results]:
    """The function to time: forward in evaluation, or forward and backward in training; bfloat16 through autocast."""
    training = problem.module.training
    x = problem.x.to(dtype, copy=True).requires_grad_(training)
    if backend == "reference":
        params = state(problem.module)
        leaves = {name: value for name, value in params.items() if value.requires_grad}
        buffers = {name: value for name, value in params.items() if not value.requires_grad}

        def layer(x: Tensor) -> Tensor:
            return problem.operator.reference(params, x, training)

    else:
        module = prepare(problem.module, backend)
        if problem.operator.name == "correlation":
            module.to(dtype)
        leaves, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        layer = compiled(module) if backend == "torch.compile" else module
    context = torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32)
    sources = [x, *leaves.values()]

    def forward() -> Results:
        with torch.no_grad(), context:
            return Results({"output": layer(x)}, {})

    def step() -> Results:
        with context:
            y = layer(x)
        gradients = torch.autograd.grad(y, sources, problem.g.to(y.dtype))
        return Results({"output": y.detach()}, dict(zip(("x", *leaves), gradients, strict=True)) | buffers)

    return step if training else forward
