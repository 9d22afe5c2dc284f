"""Options, budget and machine of all benchmarks."""

import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

# Modules of benchmarks/ import each other by name, and tests/ has the harness: runs of a layer, and their errors.
sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("benchmarks", "tests"))

from backends import DEVICE
from budget import SECONDS, Budget, costs, in_order
from measure import Machine, Measure

from mol_fast.checks.timing import Clock, copy_rate, product_rate
from mol_fast.utils.environment import environment
from mol_fast.utils.memory import keep_memory

keep_memory()
BUDGET = pytest.StashKey[Budget]()
NOT_RUN = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads on the CPU")
    parser.addoption(
        "--budget", type=float, default=SECONDS, help=f"seconds for all benchmarks, {SECONDS:g} by default, 0: no limit"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cost(seconds, wanted): what a benchmark takes, see budget.py")
    config.stash[NOT_RUN] = {}
    try:
        config.stash[BUDGET] = Budget(config.getoption("--budget"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(items)


def pytest_itemcollected(item: pytest.Item) -> None:
    if "measure" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.benchmark(timer=Clock(DEVICE)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a case beyond the budget, before its setup but after skips for other reasons."""
    refusal = item.config.stash[BUDGET].refusal(costs(item)[0])
    if refusal is not None:
        pytest.skip(refusal)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    start = time.monotonic()
    result = yield
    if item.nodeid not in item.config.stash[NOT_RUN]:
        item.config.stash[BUDGET].done(costs(item)[0], time.monotonic() - start)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        item.config.stash[NOT_RUN][item.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the budget and the skipped cases by reason. Cases beyond the budget are listed one by one."""
    if config.option.collectonly:
        return
    budget, not_run = config.stash[BUDGET], config.stash[NOT_RUN]
    limit = f"of {budget.seconds:g} s" if budget.seconds else "without limit"
    terminalreporter.section("budget")
    terminalreporter.write_line(f"{budget.elapsed():.0f} s {limit} (--budget), {len(not_run)} cases were not run")
    cut = [f"  {name}: {reason}" for name, reason in not_run.items() if "--budget" in reason]
    others = Counter(reason for reason in not_run.values() if "--budget" not in reason)
    for line in [*cut, *(f"  {count} cases: {reason}" for reason, count in others.items())]:
        terminalreporter.write_line(line)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Record relevant versions, but not the computer's name or kernel."""
    for key in ("node", "release"):
        machine_info.pop(key, None)
    machine_info["environment"] = environment(DEVICE)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["budget"] = config.stash[BUDGET].seconds
    output_json["not_run"] = config.stash[NOT_RUN]


@pytest.fixture(scope="session", autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the number of CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Return a GPU if there is one, else the CPU."""
    return DEVICE


@pytest.fixture(scope="session")
def machine(device: torch.device, threads: int) -> Machine:
    """Measure the memory rate once. The matrix rate is measured after every benchmark, because clock rates vary."""
    return Machine(device, threads, partial(product_rate, device), copy_rate(device) if device.type == "cuda" else None)


@pytest.fixture
def measure(benchmark: BenchmarkFixture, machine: Machine) -> Measure:
    return Measure(benchmark, machine)
