"""The lanes that need a process of their own: `interpreter`, `sanitizer`, `emulated` and `aot`.

Triton decides at import whether its kernels are interpreted (TRITON_INTERPRET=1) or compiled, so one process
cannot do both. Tests of a lane are ordinary tests with `pytestmark = pytest.mark.interpreter` (or `aot`); their
modules may import kernels at the top, after `pytest.importorskip("triton")`. They are collected here like any
other. When this process does not have the lane's environment, the lane's selected tests run in one child
process that has, and its reports are replayed here one by one: selection, -x, --durations and junit files
work as usual. Extra environment goes to the child as it is.

A worker of pytest-xdist, which `--dist loadfile` gives whole files, has a child for each lane of a file, until the next
file has one. Workers and what they start compute on one thread each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

WORKER = os.environ.pop("PYTEST_XDIST_WORKER", None)
"""Name of this process among the workers of pytest-xdist. What it starts must not take itself for that worker."""
if WORKER:  # before PyTorch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LANES = {"interpreter": "1", "sanitizer": "1", "emulated": "1", "aot": "0"}
"""Lane -> the value of TRITON_INTERPRET it needs."""

PIPE = "MOL_FAST_LANE_PIPE"
"""Environment variable with the file descriptor a child writes its reports to."""


def lane_of(item: pytest.Item) -> str | None:
    """The lane whose environment `item` needs and this process lacks."""
    interpreted = os.environ.get("TRITON_INTERPRET", "0")
    return next((lane for lane, flag in LANES.items() if item.get_closest_marker(lane) and flag != interpreted), None)


def unfit(triton: str, numpy: str) -> str | None:
    """Why the interpreter of this Triton does not run beside this NumPy; None where it does."""
    versions = [tuple(map(int, version.split(".")[:2])) for version in (triton, numpy)]
    if versions[0] < (3, 7) and versions[1] >= (2, 4):
        return f"the interpreter of Triton {triton} needs NumPy older than 2.4, got {numpy}"
    return None


def skip_unfit(items: list[pytest.Item]) -> None:
    """Skip what is interpreted where the interpreter cannot run."""
    try:
        reason = unfit(version("triton"), version("numpy"))
    except PackageNotFoundError:
        return
    for item in items if reason else ():
        if any(item.get_closest_marker(lane) for lane, flag in LANES.items() if flag == "1"):
            item.add_marker(pytest.mark.skip(reason=reason))


class Child:
    """A pytest process that runs the tests of one lane and streams its reports."""

    def __init__(self, lane: str, items: list[pytest.Item], config: pytest.Config) -> None:
        self.lane, self.config = lane, config
        self.folder = tempfile.TemporaryDirectory()
        self.log = Path(self.folder.name, "log.txt")
        names = Path(self.folder.name, "names.txt")
        names.write_text("\n".join(item.nodeid for item in items))
        reader, writer = os.pipe()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", f"@{names}", "-p", "no:cacheprovider"],
                cwd=config.rootpath,
                env={**os.environ, "TRITON_INTERPRET": LANES[lane], PIPE: str(writer)},
                pass_fds=[writer],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        os.close(writer)
        self.lines = os.fdopen(reader)
        self.reports: dict[str, list[pytest.TestReport]] = {}

    def reports_of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Reports of setup, call and teardown, as they come; a failure when the child ends before them."""
        for line in self.lines:
            report = self.config.hook.pytest_report_from_serializable(config=self.config, data=json.loads(line))
            self.reports.setdefault(report.nodeid, []).append(report)
            if report.nodeid == item.nodeid and report.when == "teardown":
                break
        reports = self.reports.pop(item.nodeid, [])
        yield from reports
        if not any(report.when == "teardown" for report in reports):
            yield self.died(item)

    def died(self, item: pytest.Item) -> pytest.TestReport:
        code = self.process.wait()
        text = f"the {self.lane} process ended with code {code}:\n{self.log.read_text()[-4000:]}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.lines.close()
        self.folder.cleanup()


CHILDREN = pytest.StashKey[dict[tuple[str, Path | None], Child]]()


def key_of(item: pytest.Item, lane: str) -> tuple[str, Path | None]:
    """What the items of one child have in common."""
    return lane, item.path if WORKER else None


def close_children(session: pytest.Session) -> None:
    children = session.stash.get(CHILDREN, {})
    while children:
        children.popitem()[1].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    lane = lane_of(item)
    if lane is None:
        return None
    children, key = item.session.stash.setdefault(CHILDREN, {}), key_of(item, lane)
    if key not in children:
        for other in [other for other in children if other[1] != key[1]]:
            children.pop(other).close()
        selected = [other for other in item.session.items if lane_of(other) == lane and key_of(other, lane) == key]
        children[key] = Child(lane, selected, item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in children[key].reports_of(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # What an earlier test of this process has left set up for this one's module ends with the module.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    close_children(session)


class Reporter:
    """In a child: writes each report to the parent's pipe."""

    def __init__(self, config: pytest.Config, descriptor: int) -> None:
        self.config = config
        self.pipe = os.fdopen(descriptor, "w")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.pipe.write(json.dumps(data) + "\n")
        self.pipe.flush()


def pytest_configure(config: pytest.Config) -> None:
    if PIPE in os.environ:
        config.pluginmanager.register(Reporter(config, int(os.environ.pop(PIPE))))
