"""Tasks of workers on whole layers, as people use them: time forward and training, also of PyTorch and its compiler.

A forward runs in evaluation without gradients; forward+backward runs in training with all gradients. bfloat16 is
autocast with float32 parameters.
"""

import gc
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from gpu_stages.context import current
from gpu_stages.kernels import launches
from gpu_stages.problems import both_times, device, error, floor
from mol_fast import CCC, F5C, FCC, functional
from mol_fast.checks.operators import SLOPE

ALLOWED = 2 * 1e-4**0.5
"""Largest relative error from one neighbour or winner in 10,000 that rounding changes."""

Results = dict[str, Tensor]


class Correlation(nn.Module):
    """Correlation with maps, which are a parameter, and LeakyReLU."""

    def __init__(self, maps: int, channels: int, side: int) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.randn(maps, channels, side, side))
        self.backend = "torch"

    def forward(self, x: Tensor) -> Tensor:
        return functional.correlation(x, self.other.to(x.dtype), negative_slope=SLOPE, backend=self.backend)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, its input, the incoming gradient, and its results in float64."""

    module: nn.Module
    x: Tensor
    gradient: Tensor
    exact: Results

    def results(self, backend: str, dtype: torch.dtype) -> Results:
        """Return the results of a backend of PyTorch or Triton."""
        call, read = function(self.module, backend, self.x, self.gradient, dtype)
        return read(call())


@lru_cache(maxsize=1)
def layer(name: str, maps: int, training: bool, dtype: str) -> Layer:
    sizes = current().sizes
    torch.manual_seed(0)
    blocks: dict[str, Callable[[], nn.Module]] = {
        "FCC": lambda: FCC(sizes.channels, sizes.side),
        "CCC": lambda: CCC(sizes.channels, sizes.side, sizes.neighbors),
        "F5C": lambda: F5C(sizes.channels, sizes.side, sizes.neighbors),
        "correlation": lambda: Correlation(maps // 2 or 1, 2 * sizes.channels, sizes.side),
    }
    module = blocks[name]()
    count, channels = (maps // 2 or 1, 2 * sizes.channels) if name == "correlation" else (maps, sizes.channels)
    if name != "correlation":
        randomise(module)
    module = module.to(device()).train(training)
    x = torch.randn(count, channels, sizes.side, sizes.side).to(device(), getattr(torch, dtype))
    outputs = 21**2 if name == "correlation" else channels
    gradient = torch.randn(count, outputs, sizes.side, sizes.side).to(device(), getattr(torch, dtype))
    double = deepcopy(module).double()
    call, read = function(double, "torch", x.double(), gradient.double(), torch.float64)
    return Layer(module, x, gradient, read(call()))


def randomise(module: nn.Module) -> None:
    """Set parameters of order 1, because some layers start as the identity."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.normal_(0, value.shape[1] ** -0.5 if value.dim() > 1 else 0.5)
            if name.endswith("norm.weight"):
                value.add_(1)


def function(
    module: nn.Module, backend: str, x: Tensor, gradient: Tensor, dtype: torch.dtype
) -> tuple[Callable[[], Any], Callable[[Any], Results]]:
    """Return the function to time, on a copy of `module`, and a function that reads its results."""
    module = deepcopy(module)
    for part in module.modules():
        if hasattr(part, "backend"):
            part.backend = "triton" if backend == "triton" else "torch"
    names, parameters = zip(*module.named_parameters(), strict=True)
    forward: Callable[[Tensor], Tensor] = module
    if backend == "torch.compile":
        torch._dynamo.reset()  # modules share compiled code, which may be recompiled only a few times
        forward = torch.compile(module, fullgraph=True, dynamic=False, backend=compiler())
    leaf = x.clone().requires_grad_(module.training)
    context = torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

    def evaluate() -> list[Tensor]:
        with torch.no_grad(), context:
            return [forward(leaf)]

    def train() -> list[Tensor]:
        with context:
            y = forward(leaf)
        return [y, *torch.autograd.grad(y, [leaf, *parameters], gradient.to(y.dtype))]

    def read(values: list[Tensor]) -> Results:
        return dict(zip(("y", "x", *names), (value.detach() for value in values), strict=False))

    return (train if module.training else evaluate), read


def compiler() -> str:
    return "inductor" if device().type == "cuda" else "eager"


def measure(
    name: str, maps: int, dtype: str, training: bool, backend: str, copy: float, product: dict[str, float]
) -> dict[str, Any]:
    """Measure times of a layer, its floor on this card, and its error beside PyTorch's in the same dtype.

    Raises:
        RuntimeError: a result is wrong. Then nothing is timed.
    """
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()
    kind, asked = getattr(torch, dtype), layer(name, maps, training, dtype)
    call, read = function(asked.module, backend, asked.x, asked.gradient, kind)
    found, plain = error(read(call()), asked.exact), error(asked.results("torch", kind), asked.exact)
    most = 2 * plain + torch.finfo(kind).eps + ALLOWED
    if not found <= most:
        raise RuntimeError(f"wrong result, nothing is timed: error {found:.1e}, PyTorch {plain:.1e}")
    limit = floor(traffic(name, maps, dtype, training), dtype, copy, product)
    return {"error": found, "plain_error": plain, "floor_s": limit, "shape": list(asked.x.shape), **both_times(call)}


def traffic(name: str, maps: int, dtype: str, training: bool) -> list[Any]:
    """Return the launches of a layer, which have bytes and FLOPs."""
    parts = ("FCC", "CCC") if name == "F5C" else (name,)
    found = [launch for part in parts for launch in launches(part, maps, dtype, training)]
    return [launch for launch in found if training or launch.phase == "forward"]


def compile_once(name: str, maps: int, dtype: str, training: bool) -> dict[str, Any]:
    """Call the compiled layer once, to fill the compiler's cache."""
    asked = layer(name, maps, training, dtype)
    call, _ = function(asked.module, "torch.compile", asked.x, asked.gradient, getattr(torch, dtype))
    call()
    return {}


def profile(name: str, maps: int, dtype: str) -> dict[str, Any]:
    """Profile forward and backward: microseconds of every kernel on the GPU, the largest first."""
    asked = layer(name, maps, True, dtype)
    call, _ = function(asked.module, "triton", asked.x, asked.gradient, getattr(torch, dtype))
    return {"rows": profiled(call, 5 if device().type == "cuda" else 1)[0]}


def profiled(call: Callable[[], Any], calls: int) -> tuple[list[dict[str, Any]], str]:
    """Return time and count of every kernel (on a CPU: operator) per call, and the profiler's table as text."""
    from torch.profiler import ProfilerActivity

    gpu = device().type == "cuda"
    for _ in range(2 if gpu else 0):
        call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(calls):
            call()
        if gpu:
            torch.cuda.synchronize()
    averages = profile.key_averages()
    own = "self_device_time_total" if gpu else "self_cpu_time_total"
    rows = [
        {"name": item.key[:100], "us": getattr(item, own) / calls, "calls": item.count / calls}
        for item in averages
        if getattr(item, own) > 0 and (not gpu or "cuda" in str(item.device_type).lower())
    ]
    rows.sort(key=lambda row: -row["us"])
    return rows[:40], averages.table(sort_by=own, row_limit=60, max_name_column_width=70)
