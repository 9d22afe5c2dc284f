"""One benchmark: its labels, its rounds, and what is written beside its times."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from stopwatch import Clock

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
    clock: Clock
    matrix_rate: Callable[[torch.dtype], float]
    memory_rate: float | None


@dataclass(frozen=True)
class Measure:
    """Times functions that were found right."""

    benchmark: BenchmarkFixture
    machine: Machine

    def __call__(self, function: Callable[[], object], labels: Labels, flops: int, bytes: int, **extra: Any) -> None:
        """Time `function`, which does `flops` operations and moves `bytes` or more; `extra` is written beside."""
        self.benchmark.group = f"{labels.operation} {labels.phase} {labels.shape}"
        self.benchmark.name = f"{labels.backend} {labels.dtype}"
        repeat(self.benchmark, self.machine.clock, function)
        if not self.benchmark.stats:  # --benchmark-disable
            return
        median = self.benchmark.stats.stats.median
        rate = self.machine.matrix_rate(getattr(torch, labels.dtype))
        self.benchmark.extra_info |= {
            **asdict(labels),
            "device": self.machine.device.type,
            "threads": self.machine.threads,
            "flops": flops,
            "matrix_rate": rate,
            "matrix_share": flops / median / rate,
            **extra,
        }
        if self.machine.memory_rate is not None:
            floor = max(flops / rate, bytes / self.machine.memory_rate)
            self.benchmark.extra_info |= {
                "bytes": bytes,
                "memory_rate": self.machine.memory_rate,
                "roofline_share": floor / median,
            }


def repeat(benchmark: BenchmarkFixture, clock: Clock, function: Callable[[], object]) -> None:
    """Time `function` in a bounded number of rounds, after calls that do not count."""
    timed = clock.timed(function)
    start = clock()
    timed()
    seconds = clock() - start
    if seconds > SLOW:
        benchmark.pedantic(timed, rounds=SLOW_ROUNDS)
    else:
        rounds = min(max(LEAST_ROUNDS, int(SECONDS / seconds)), MOST_ROUNDS)
        benchmark.pedantic(timed, rounds=rounds, warmup_rounds=2)
