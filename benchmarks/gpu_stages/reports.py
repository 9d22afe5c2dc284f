"""A pytest plugin that writes the start and end of every test to a file at once, so that a kill loses nothing.

Under pytest-xdist, a test that makes the GPU unusable ends its process, and pytest-xdist starts another one.
"""

import json
import os
from pathlib import Path

import pytest

VARIABLE = "MOL_FAST_GPU_REPORTS"
"""Environment variable that names the file."""


def note(**values: object) -> None:
    with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def in_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ


def pytest_runtest_logstart(nodeid: str) -> None:
    if in_worker() or VARIABLE not in os.environ:
        return
    note(test=nodeid, outcome="started")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if in_worker() or VARIABLE not in os.environ:
        return
    if report.when == "call" or report.outcome != "passed":
        text = "" if report.outcome != "failed" else report.longreprtext[-1500:]
        note(test=report.nodeid, outcome=report.outcome, when=report.when, seconds=report.duration, error=text)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed and not in_worker() and VARIABLE in os.environ:
        note(test=report.nodeid, outcome="failed", when="collect", seconds=0.0, error=report.longreprtext[-1500:])


def pytest_runtest_logfinish(nodeid: str) -> None:
    from gpu_stages.worker import poisoned

    if in_worker() and poisoned():
        os._exit(70)
