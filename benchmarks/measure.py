"""Run one benchmark: labels, rounds, and figures stored with its times."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mol_fast.checks import timing

SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 0.3, 5, 30
"""Approximate seconds of a benchmark, and bounds on its rounds."""
SLOW, SLOW_ROUNDS = 1.5, 3
"""A call of more seconds is repeated fewer times."""


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Labels:
    """Labels of a time in the tables. `shape` is the shape of the input."""

    operation: str
    phase: str
    shape: str
    backend: str
    dtype: str


@dataclass(frozen=True)
class Machine:
    """Conditions and limits: `matrix_rate` in operations/s by dtype, `memory_rate` of a GPU in bytes/s."""

    device: torch.device
    threads: int
    matrix_rate: Callable[[torch.dtype], float]
    memory_rate: float | None


@dataclass(frozen=True)
class Measure:
    """Timer of functions whose results were checked."""

    benchmark: BenchmarkFixture
    machine: Machine

    def __call__(self, function: Callable[[], object], labels: Labels, flops: int, bytes: int, **extra: Any) -> None:
        """Time `function`, which does `flops` operations and moves at least `bytes`. `extra` is stored with the time.

        On a GPU the rounds of the benchmark measure eager time; kernel time is stored with it, or None and the reason.
        Shares refer to kernel time, if there is one.
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
    """Return the kernel time in seconds, or None and the reason."""
    try:
        return {"kernel": timing.kernel_time(function, device), "kernel_problem": None}
    except timing.CaptureError as error:
        return {"kernel": None, "kernel_problem": str(error)}


def repeat(benchmark: BenchmarkFixture, device: torch.device, function: Callable[[], object]) -> None:
    """Time `function` in a bounded number of rounds, after warm-up calls; on a GPU with many calls per round."""
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
