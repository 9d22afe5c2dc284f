"""Clocks: how long a function takes on the CPU or the GPU, and what the machine can do at most."""

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

R = TypeVar("R")

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices whose product gives a machine's matrix rate."""
COPY_BYTES = 2**30
"""Of the copy that gives a GPU's memory rate."""


class CPUClock:
    """Wall time."""

    def __call__(self) -> float:
        return time.perf_counter()

    def timed(self, function: Callable[[], R]) -> Callable[[], R]:
        return function


class GPUClock:
    """Seconds that a GPU has spent so far in the functions it was asked to time.

    Each call is measured with events, after writing over the second-level cache, so that it finds its inputs in memory.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        size = 2 * torch.cuda.get_device_properties().L2_cache_size
        self._flushed = torch.empty(size, dtype=torch.int8, device="cuda")

    def __call__(self) -> float:
        return self.seconds

    def timed(self, function: Callable[[], R]) -> Callable[[], R]:
        def run() -> R:
            self._flushed.zero_()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            result = function()
            end.record()
            end.synchronize()
            self.seconds += start.elapsed_time(end) / 1e3
            return result

        return run


Clock = CPUClock | GPUClock


def median_time(function: Callable[[], object], clock: Clock, rounds: int) -> float:
    """Seconds, the median of `rounds` after two calls that do not count."""
    timed, times = clock.timed(function), []
    for _ in range(rounds + 2):
        start = clock()
        timed()
        times.append(clock() - start)
    return statistics.median(times[2:])


def matrix_rate(device: torch.device, dtype: torch.dtype, clock: Clock) -> float:
    """Floating-point operations per second of a product of two square matrices."""
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / median_time(lambda: a @ b, clock, 5)


def memory_rate(device: torch.device, clock: Clock) -> float:
    """Bytes read and written per second by a copy."""
    source = torch.empty(COPY_BYTES, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / median_time(lambda: target.copy_(source), clock, 9)
