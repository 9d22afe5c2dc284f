"""Times of the operators on a GPU, and their share of the floor that memory and matrix rates set."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from mol_fast.checks.accuracy import TRITON_DTYPES, accumulator, dtype_name
from mol_fast.checks.operators import CCC, SLOPE, Correlation, FCCEvaluation, FCCTraining, Operator

RUNS = 20
FLUSH_BYTES = 512 * 2**20  # several times the largest cache
FLUSHES = 4  # long enough for the CPU to queue a call before the GPU gets to it


def timed_operators() -> list[Operator]:
    """Sizes of a training step of 32 clips with 14 maps each, of which the flow head compares 7 pairs."""
    maps = (448, 128, 16, 16)
    return [
        FCCTraining(maps, groups=7),
        FCCEvaluation(maps),
        CCC(maps),
        Correlation((224, 256, 16, 16)),
    ]


def speed(device: torch.device, triton: bool, quick: bool) -> Iterator[dict[str, Any]]:
    """One row for each operator, dtype and pass: microseconds of PyTorch and Triton, floor, share of the floor.

    The floor, from the kernels' own bytes and FLOPs, and the share are None on a card whose rates are not known.
    """
    for operator in timed_operators():
        for dtype in TRITON_DTYPES[-1:] if quick else TRITON_DTYPES:
            times = {backend: passes(operator, dtype, backend, device) for backend in backends(triton)}
            limits = floors(operator, dtype, device) if triton else {}
            for phase in ("forward", "backward"):
                row = {name: 1e6 * found[phase] for name, found in times.items()}
                limit = limits.get(phase)
                yield {
                    "operator": operator.name,
                    "shape": list(operator.shape),
                    "dtype": dtype_name(dtype),
                    "pass": phase,
                    "torch_us": row["torch"],
                    "triton_us": row.get("triton"),
                    "floor_us": limit and 1e6 * limit,
                    "share_of_floor": limit and 1e6 * limit / row["triton"],
                }


def backends(triton: bool) -> tuple[str, ...]:
    return ("torch", "triton") if triton else ("torch",)


def passes(operator: Operator, dtype: torch.dtype, backend: str, device: torch.device) -> dict[str, float]:
    """Seconds of a forward, and of the backward of all inputs."""
    leaves = {}
    for name, value in operator.draw(torch.Generator().manual_seed(0)).items():
        kept = dtype if name in operator.maps else accumulator(dtype)
        leaves[name] = value.to(device, kept).requires_grad_(name not in operator.constants)
    wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
    y = operator.fast(leaves, backend)["y"]
    gradient = torch.randn(y.shape, device=device).to(dtype)
    return {
        "forward": median_time(lambda: operator.fast(leaves, backend), device),
        "backward": median_time(lambda: torch.autograd.grad(y, wanted, gradient, retain_graph=True), device),
    }


def median_time(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call between two events on the GPU, its caches flushed before; the median of `RUNS`."""
    with torch.cuda.device(device):
        flush: Tensor = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)
        for _ in range(3):
            function()
        spans = []
        for _ in range(RUNS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            for _ in range(FLUSHES):
                flush.zero_()
            start.record()
            function()
            end.record()
            spans.append((start, end))
        torch.cuda.synchronize()
        return 1e-3 * statistics.median(start.elapsed_time(end) for start, end in spans)


def floors(operator: Operator, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Seconds below which the launches of each pass cannot run on this card; empty for one that is not known."""
    from mol_fast.kernels import resources

    name = torch.cuda.get_device_name(device)
    card = next((card for known, card in resources.CARDS.items() if known in name), None)
    if card is None:
        return {}
    found = {"forward": 0.0, "backward": 0.0}
    for launch in launches(operator, dtype):
        found[launch.phase] += card.floor(launch, dtype)
    return found


def launches(operator: Operator, dtype: torch.dtype) -> list[Any]:
    """The launches of a forward and a backward call, by the kernels' own account."""
    from mol_fast.kernels import ccc, common, correlation, fcc

    target = common.target()
    if isinstance(operator, CCC):
        return ccc.launches(operator.shape, operator.neighbors, dtype, target)
    if isinstance(operator, Correlation):
        return correlation.launches(operator.shape, dtype, target, negative_slope=SLOPE)
    training = not isinstance(operator, FCCEvaluation)
    return fcc.launches(operator.shape, dtype, target, groups=operator.groups, training=training)
