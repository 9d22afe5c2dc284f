"""The stopwatch of doctor, benchmarks and GPU script: kernel and eager time of a function, ceilings of the machine.

Kernel time is the time a GPU needs for one call: the launches are recorded as a CUDA graph, which is replayed with its
inputs in memory, not in the L2 cache. Eager time is the time per call in a Python loop: calls are queued without
waiting, so the slower of host and device counts. A CPU has only eager time.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Function = Callable[[], object]

WARM_UP = 3
"""Number of calls before recording or timing, for compilation, choice of library kernels, workspaces."""
REPLAYS, LEAST_REPLAYS, REPLAY_SECONDS = 20, 5, 1.0
"""Largest and smallest number of replays of a graph, and their total seconds."""
ROUNDS, ROUND_SECONDS, MOST_CALLS = 7, 0.03, 256
"""Number of rounds of eager time (the median counts), seconds of a round, and most calls of a round."""
CEILING_ROUNDS = {"cpu": 3, "cuda": 15}
"""Rounds of a ceiling. Few on a CPU, where benchmarks repeat the measurement because clock rates vary."""
FLUSH_BYTES = 512 * 2**20  # several times the largest cache
PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices whose product measures the matrix rate."""
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""Size of the copy that measures the memory rate."""
PRODUCTS = (torch.float32, torch.float16, torch.bfloat16)


class CaptureError(RuntimeError):
    """A function cannot be recorded as a CUDA graph."""


class Clock:
    """Clock of wall time in seconds, which first waits for `device` to finish its queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Times(NamedTuple):
    """Seconds of a call on a GPU. `kernel` is None if the function cannot be recorded; then `problem` says why."""

    kernel: float | None
    eager: float
    problem: str | None = None


@dataclass(frozen=True)
class Ceilings:
    """Measured peak rates of a machine.

    Attributes:
        copy: bytes read and written per second.
        product: FLOP/s of matrix products, by dtype. On a GPU, float32 is the faster of a plain product and three TF32
            products, which together are as exact.
    """

    copy: float
    product: Mapping[torch.dtype, float]

    def floor(self, bytes: int, flops: int, dtype: torch.dtype) -> float:
        """Return the least seconds for moving `bytes` and computing `flops` in products of `dtype`."""
        return max(bytes / self.copy, flops / self.product[dtype] if flops else 0.0)


def times(function: Function, device: torch.device, *, stream: "torch.cuda.Stream | None" = None) -> Times:
    """Measure kernel and eager time of a call on a GPU.

    Args:
        function: called many times. If it runs a backward whose forward ran outside, that forward must have run on
            `stream`, because a backward runs on the stream of its forward.
        device: the GPU.
        stream: stream of all calls. Default: a new one.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream() if stream is None else stream
        eager = eager_time(function, device, stream=stream)
        try:
            return Times(kernel_time(function, device, stream=stream), eager)
        except CaptureError as error:
            return Times(None, eager, str(error))


def kernel_time(function: Function, device: torch.device, *, stream: "torch.cuda.Stream | None" = None) -> float:
    """Measure the seconds a GPU needs for a call: the median over replays of a CUDA graph, with a flushed cache.

    The time includes the GPU's own overhead of starting a graph.

    Args:
        function: the function to time, see `times`.
        device: the GPU.
        stream: stream that records `function`. Default: a new one.

    Raises:
        CaptureError: the launches of `function` cannot be recorded, for example because it waits for the GPU.
    """
    with torch.cuda.device(device):
        graph = _record(function, torch.cuda.Stream() if stream is None else stream)
        try:
            return _median_replay(graph, device)
        finally:
            graph.reset()


def eager_time(
    function: Function, device: torch.device, *, stream: "torch.cuda.Stream | None" = None, rounds: int = ROUNDS
) -> float:
    """Measure the seconds per call of consecutive calls, waiting for `device` once at the end; the median over rounds.

    Args:
        function: the function to time, see `times`.
        device: the device it runs on, a GPU or the CPU.
        stream: stream of all calls on a GPU. Default: the current one.
        rounds: number of rounds of calls.
    """
    clock, found = Clock(device), []
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        calls = calls_per_round(function, clock)
        for _ in range(rounds):
            start = clock()
            for _ in range(calls):
                function()
            found.append((clock() - start) / calls)
    return statistics.median(found)


def calls_per_round(function: Function, clock: Clock) -> int:
    """Warm up, and return the number of calls that take about `ROUND_SECONDS`, at least one."""
    for _ in range(WARM_UP):
        start = clock()
        function()
        seconds = clock() - start
    return max(1, min(MOST_CALLS, round(ROUND_SECONDS / max(seconds, 1e-9))))


def ceilings(device: torch.device, dtypes: tuple[torch.dtype, ...] = PRODUCTS) -> Ceilings:
    """Measure the peak rates of `device`. Takes a few seconds on a GPU."""
    return Ceilings(copy_rate(device), {dtype: product_rate(device, dtype) for dtype in dtypes})


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure FLOP/s of a product of two square matrices, see `Ceilings`."""
    side, rounds = PRODUCT_SIDE[device.type], CEILING_ROUNDS[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def rate() -> float:
        return 2 * side**3 / eager_time(lambda: torch.mm(a, b, out=out), device, rounds=rounds)

    plain = rate()
    if device.type != "cuda" or dtype != torch.float32:
        return plain
    with _tf32():
        return max(plain, rate() / 3)


def copy_rate(device: torch.device) -> float:
    """Measure bytes read and written per second by a copy from memory to memory."""
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.int8, device=device)
    target = torch.zeros_like(source)
    rounds = CEILING_ROUNDS[device.type]
    return 2 * source.numel() / eager_time(lambda: target.copy_(source), device, rounds=rounds)


def _record(function: Function, stream: "torch.cuda.Stream") -> "torch.cuda.CUDAGraph":
    """Record the launches of one call as a graph, or raise CaptureError."""
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):  # the context of the graph does not restore the stream if it fails
        for _ in range(WARM_UP):
            function()
        gc.collect()  # collecting an autograd graph during the recording would free memory of another stream
        try:
            with torch.cuda.graph(graph, stream=stream):
                function()
        except RuntimeError as error:
            reason = (str(error.__context__ or error).strip().splitlines() or [type(error).__name__])[0]
            raise CaptureError(
                f"no CUDA graph can hold this function, it must not wait for the GPU: {reason}"
            ) from error
    return graph


def _median_replay(graph: "torch.cuda.CUDAGraph", device: torch.device) -> float:
    """Return the median seconds between events around a replay, with the cache filled by other data before."""
    clock = Clock(device)
    graph.replay()
    start = clock()
    graph.replay()
    queued = time.perf_counter() - start
    whole = clock() - start
    cold = torch.zeros(FLUSH_BYTES // 4, device=device)
    total = torch.zeros((), device=device)

    def flush() -> Tensor:
        return torch.sum(cold, 0, out=total)  # read only: dirty lines in the cache would have to be written back

    # The flush takes longer on the GPU than the CPU takes to queue a replay, so the replay starts at once.
    flushes = 1 + math.ceil(2 * queued / eager_time(flush, device))
    spans = []
    for _ in range(max(LEAST_REPLAYS, min(REPLAYS, round(REPLAY_SECONDS / max(whole, 1e-9))))):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(flushes):
            flush()
        first.record()
        graph.replay()
        last.record()
        spans.append((first, last))
    torch.cuda.synchronize(device)
    return 1e-3 * statistics.median(first.elapsed_time(last) for first, last in spans)


@contextmanager
def _tf32() -> Iterator[None]:
    """Inside the context, let float32 products of a GPU run in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
