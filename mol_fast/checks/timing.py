"""The stopwatch of doctor, benchmarks and the script for a GPU: two figures of a function, and the machine's ceilings.

Kernel time is what a GPU needs for the work of one call: its launches are recorded as a CUDA graph, which is replayed
with its inputs in memory and not in the second-level cache. Eager time is what a call takes in a loop of Python: calls
are queued without waiting for each other, and the slower of host and device is what shows. A CPU has one figure.
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
"""Calls before anything is recorded or timed: compilation, the choice of library kernels, workspaces."""
REPLAYS, LEAST_REPLAYS, REPLAY_SECONDS = 20, 5, 1.0
"""A graph is replayed so often, or for so long, but at least `LEAST_REPLAYS` times."""
ROUNDS, ROUND_SECONDS, MOST_CALLS = 7, 0.03, 256
"""Eager time is the median of so many rounds, each of as many calls as take about so long."""
CEILING_ROUNDS = {"cpu": 3, "cuda": 15}
"""Rounds of a ceiling; few on a CPU, where benchmarks measure it again and again, as clocks go up and down."""
FLUSH_BYTES = 512 * 2**20  # several times the largest cache
PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices whose product gives a machine's matrix rate."""
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""Of the copy that gives a machine's memory rate."""
PRODUCTS = (torch.float32, torch.float16, torch.bfloat16)


class CaptureError(RuntimeError):
    """A function that no CUDA graph can hold."""


class Clock:
    """Wall time in seconds, taken when `device` has done all that was queued."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Times(NamedTuple):
    """Seconds of a call on a GPU; `kernel` is None for a function that no graph can hold, and `problem` says why."""

    kernel: float | None
    eager: float
    problem: str | None = None


@dataclass(frozen=True)
class Ceilings:
    """What a machine does at most, measured: `copy` in bytes read and written per second, `product` in FLOP/s by dtype.

    The product of float32 on a GPU is the faster of a plain one and of three in TF32, which together are as exact.
    """

    copy: float
    product: Mapping[torch.dtype, float]

    def floor(self, bytes: int, flops: int, dtype: torch.dtype) -> float:
        """Seconds below which nothing runs that moves `bytes` and does `flops` in products of `dtype`."""
        return max(bytes / self.copy, flops / self.product[dtype] if flops else 0.0)


def times(function: Function, device: torch.device, *, stream: "torch.cuda.Stream | None" = None) -> Times:
    """Kernel and eager time of a call on a GPU.

    Args:
        function: called many times. What it passes backward through, and has not made itself, must have been made on
            `stream`, as a backward runs where its forward did.
        device: the GPU.
        stream: for all calls; one of its own if None.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream() if stream is None else stream
        eager = eager_time(function, device, stream=stream)
        try:
            return Times(kernel_time(function, device, stream=stream), eager)
        except CaptureError as error:
            return Times(None, eager, str(error))


def kernel_time(function: Function, device: torch.device, *, stream: "torch.cuda.Stream | None" = None) -> float:
    """Seconds a GPU needs for a call: the median over replays of a CUDA graph, the cache flushed before each.

    The GPU's own start of a graph is part of it.

    Args:
        function: what to time, see `times`.
        device: the GPU.
        stream: on which `function` is recorded; one of its own if None.

    Raises:
        CaptureError: the launches of `function` cannot be recorded, as where it waits for the GPU.
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
    """Seconds per call of calls in a row, with one wait for `device` at their end; the median over rounds.

    Args:
        function: what to time, see `times`.
        device: where it runs, a GPU or the CPU.
        stream: of a GPU, on which `function` is called; the current one if None.
        rounds: of calls.
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
    """Warm up, and count the calls that take about `ROUND_SECONDS`, at least one."""
    for _ in range(WARM_UP):
        start = clock()
        function()
        seconds = clock() - start
    return max(1, min(MOST_CALLS, round(ROUND_SECONDS / max(seconds, 1e-9))))


def ceilings(device: torch.device, dtypes: tuple[torch.dtype, ...] = PRODUCTS) -> Ceilings:
    """Measure what `device` does at most, on a GPU in some seconds."""
    return Ceilings(copy_rate(device), {dtype: product_rate(device, dtype) for dtype in dtypes})


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a product of two square matrices, see `Ceilings`."""
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
    """Bytes read and written per second by a copy from memory to memory."""
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.int8, device=device)
    target = torch.zeros_like(source)
    rounds = CEILING_ROUNDS[device.type]
    return 2 * source.numel() / eager_time(lambda: target.copy_(source), device, rounds=rounds)


def _record(function: Function, stream: "torch.cuda.Stream") -> "torch.cuda.CUDAGraph":
    """A graph of the launches of one call; CaptureError if there can be none."""
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):  # which the context of the graph does not leave when it fails
        for _ in range(WARM_UP):
            function()
        gc.collect()  # a graph of autograd that dies during the recording would free what another stream holds
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
    """Seconds between events around a replay, the cache filled with other data before the first of them."""
    clock = Clock(device)
    graph.replay()
    start = clock()
    graph.replay()
    queued = time.perf_counter() - start
    whole = clock() - start
    cold = torch.zeros(FLUSH_BYTES // 4, device=device)
    total = torch.zeros((), device=device)

    def flush() -> Tensor:
        return torch.sum(cold, 0, out=total)  # reads: what writes left in the cache would have to be written back

    # The GPU flushes for longer than the CPU takes to queue a replay, which then starts at once.
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
    """Let float32 products of a GPU run in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
