"""One benchmark: its labels, its rounds, and what is written beside its times."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mol_fast.checks import timing

SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 0.3, 5, 30
"""A benchmark repeats for about so long, within these bounds."""
SLOW, SLOW_ROUNDS = 1.5, 3
"""Seconds from which on a call repeats less often."""


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Labels:
    """Where a time belongs in the tables; `shape` is that of the input."""

    operation: str
    phase: str
    shape: str
    backend: str
    dtype: str


@dataclass(frozen=True)
class Machine:
    """Conditions and limits: `matrix_rate` in operations per second by dtype, `memory_rate` of a GPU in bytes."""

    device: torch.device
    threads: int
    matrix_rate: Callable[[torch.dtype], float]
    memory_rate: float | None


@dataclass(frozen=True)
class Measure:
    """Times functions that were found right."""

    benchmark: BenchmarkFixture
    machine: Machine

    def __call__(self, function: Callable[[], object], labels: Labels, flops: int, bytes: int, **extra: Any) -> None:
        """Time `function`, which does `flops` operations and moves `bytes` or more; `extra` is written beside.

        On a GPU the rounds of the benchmark are eager time, and kernel time stands beside it, None and why where
        there is none. Shares are of kernel time, if there is one.
        """
        self.benchmark.group = f"{labels.operation} {labels.phase} {labels.shape}"
        self.benchmark.name = f"{labels.backend} {labels.dtype}"
        repeat(self.benchmark, self.machine.device, function)
        if not self.benchmark.stats:  # --benchmark-disable
            return
        device, eager = self.machine.device, self.benchmark.stats.stats.median
        figures = kernel_figure(function, device) if device.type == "cuda" else {}
        seconds = figures.get("kernel") or eager
        rate = self.machine.matrix_rate(getattr(torch, labels.dtype))
        self.benchmark.extra_info |= {
            **asdict(labels),
            "device": device.type,
            "threads": self.machine.threads,
            "flops": flops,
            "matrix_rate": rate,
            "matrix_share": flops / seconds / rate,
            **figures,
            **extra,
        }
        if self.machine.memory_rate is not None:
            floor = max(flops / rate, bytes / self.machine.memory_rate)
            self.benchmark.extra_info |= {
                "bytes": bytes,
                "memory_rate": self.machine.memory_rate,
                "roofline_share": floor / seconds,
            }


def kernel_figure(function: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Kernel time in seconds, or None and why."""
    try:
        return {"kernel": timing.kernel_time(function, device), "kernel_problem": None}
    except timing.CaptureError as error:
        return {"kernel": None, "kernel_problem": str(error)}


def repeat(benchmark: BenchmarkFixture, device: torch.device, function: Callable[[], object]) -> None:
    """Time `function` in a bounded number of rounds, after calls that do not count; on a GPU many calls a round."""
    clock = timing.Clock(device)
    start = clock()
    function()
    seconds = clock() - start
    if seconds > SLOW:
        benchmark.pedantic(function, rounds=SLOW_ROUNDS)
    elif device.type == "cuda":
        benchmark.pedantic(function, rounds=timing.ROUNDS, iterations=timing.calls_per_round(function, clock))
    else:
        rounds = min(max(LEAST_ROUNDS, int(SECONDS / seconds)), MOST_ROUNDS)
        benchmark.pedantic(function, rounds=rounds, warmup_rounds=2)
