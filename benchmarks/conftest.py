"""Options and the machine, for all benchmarks."""

import os
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # compare.py: runs of a layer, and their errors

from measure import Machine, Measure
from stopwatch import Clock, CPUClock, GPUClock, matrix_rate, memory_rate

from mol_fast.utils.environment import environment
from mol_fast.utils.memory import keep_memory

keep_memory()


@cache
def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def _clock() -> Clock:
    return GPUClock() if _device().type == "cuda" else CPUClock()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads on the CPU")


def pytest_itemcollected(item: pytest.Item) -> None:
    if "measure" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.benchmark(timer=_clock()))


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """The versions that matter, and not the computer's name or kernel."""
    for key in ("node", "release"):
        machine_info.pop(key, None)
    machine_info["environment"] = environment(_device())


@pytest.fixture(scope="session", autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The threads of the CPU, pinned."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """A GPU where there is one."""
    return _device()


@pytest.fixture(scope="module")
def machine(device: torch.device, threads: int) -> Machine:
    """The memory rate is measured once per file, the matrix rate after every benchmark: clocks go up and down."""
    clock = _clock()
    rate = partial(matrix_rate, device, clock=clock)
    return Machine(device, threads, clock, rate, memory_rate(device, clock) if device.type == "cuda" else None)


@pytest.fixture
def measure(benchmark: BenchmarkFixture, machine: Machine) -> Measure:
    return Measure(benchmark, machine)
