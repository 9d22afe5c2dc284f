"""Time the operators on a GPU, kernel and eager, and compare with the floor set by the card's measured ceilings."""

from collections.abc import Iterator
from typing import Any

import torch

from mol_fast.checks.accuracy import TRITON_DTYPES, accumulator, dtype_name
from mol_fast.checks.operators import CCC, SLOPE, Correlation, FCCEvaluation, FCCTraining, Operator
from mol_fast.checks.timing import Ceilings, Times, times


def timed_operators() -> list[Operator]:
    """Return the operators at the sizes of a training step: 32 clips with 14 maps each, hence 7 pairs."""
    maps = (448, 128, 16, 16)
    return [
        FCCTraining(maps, groups=7),
        FCCEvaluation(maps),
        CCC(maps),
        Correlation((224, 256, 16, 16)),
    ]


def speed(device: torch.device, triton: bool, quick: bool, limits: Ceilings) -> Iterator[dict[str, Any]]:
    """Yield a row per operator, dtype and pass: kernel and eager time of PyTorch and Triton in microseconds, floor.

    Kernel time is None if the launches cannot be recorded; then `problem` says why. Bytes, FLOPs, floor and share of
    the floor in the kernel time describe Triton, and are None without it.
    """
    for operator in timed_operators():
        for dtype in TRITON_DTYPES[-1:] if quick else TRITON_DTYPES:
            found = {backend: passes(operator, dtype, backend, device) for backend in backends(triton)}
            budget = work(operator, dtype, limits) if triton else {}
            for phase in ("forward", "backward"):
                row: dict[str, Any] = {
                    "operator": operator.name,
                    "shape": list(operator.shape),
                    "dtype": dtype_name(dtype),
                    "pass": phase,
                    **microseconds("torch", found["torch"][phase]),
                    **microseconds("triton", found["triton"][phase] if triton else None),
                    **budget.get(phase, dict.fromkeys(("bytes", "l2_bytes", "flops", "floor_us"))),
                }
                kernel, floor = row["triton_kernel_us"], row["floor_us"]
                row["share_of_floor"] = floor / kernel if floor and kernel else None
                problems = [f"{backend}: {by[phase].problem}" for backend, by in found.items() if by[phase].problem]
                yield {**row, "problem": "; ".join(problems) or None}


def microseconds(backend: str, found: Times | None) -> dict[str, float | None]:
    kernel, eager = (None, None) if found is None else (found.kernel, found.eager)
    return {f"{backend}_kernel_us": kernel and 1e6 * kernel, f"{backend}_eager_us": eager and 1e6 * eager}


def backends(triton: bool) -> tuple[str, ...]:
    return ("torch", "triton") if triton else ("torch",)


def passes(operator: Operator, dtype: torch.dtype, backend: str, device: torch.device) -> dict[str, Times]:
    """Time a forward, and the backward to all inputs."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
    leaves = {}
    for name, value in operator.draw(torch.Generator().manual_seed(0)).items():
        kept = dtype if name in operator.maps else accumulator(dtype)
        leaves[name] = value.to(device, kept).requires_grad_(name not in operator.constants)
    wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        y = operator.fast(leaves, backend)["y"]
        gradient = torch.randn(y.shape, device=device).to(dtype)
    return {
        "forward": times(lambda: operator.fast(leaves, backend), device, stream=stream),
        "backward": times(lambda: torch.autograd.grad(y, wanted, gradient, retain_graph=True), device, stream=stream),
    }


def work(operator: Operator, dtype: torch.dtype, limits: Ceilings) -> dict[str, dict[str, float]]:
    """Return bytes (memory and L2 cache), FLOPs and floor in microseconds of each pass."""
    found = {phase: {"bytes": 0.0, "l2_bytes": 0.0, "flops": 0.0, "floor_us": 0.0} for phase in ("forward", "backward")}
    for launch in launches(operator, dtype):
        row = found[launch.phase]
        row["bytes"] += launch.bytes
        row["l2_bytes"] += launch.l2_bytes
        row["flops"] += launch.flops
        row["floor_us"] += 1e6 * limits.floor(launch.bytes, launch.flops, dtype)
    return found


def launches(operator: Operator, dtype: torch.dtype) -> list[Any]:
    """Return the launches of a forward and a backward call, as the kernels describe them."""
    from mol_fast.kernels import ccc, common, correlation, fcc

    target = common.target()
    if isinstance(operator, CCC):
        return ccc.launches(operator.shape, operator.neighbors, dtype, target)
    if isinstance(operator, Correlation):
        return correlation.launches(operator.shape, dtype, target, negative_slope=SLOPE)
    training = not isinstance(operator, FCCEvaluation)
    return fcc.launches(operator.shape, dtype, target, groups=operator.groups, training=training)
