"""The lanes that need a process of their own: `interpreter` and `aot`.

Triton decides at import whether its kernels are interpreted (TRITON_INTERPRET=1) or compiled, so one process
cannot do both. Tests of a lane are ordinary tests with `pytestmark = pytest.mark.interpreter` (or `aot`); their
modules may import kernels at the top, after `pytest.importorskip("triton")`. They are collected here like any
other. When this process does not have the lane's environment, the lane's selected tests run in one child
process that has, and its reports are replayed here one by one: selection, -x, --durations and junit files
work as usual. Extra environment goes to the child as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LANES = {"interpreter": "1", "sanitizer": "1", "emulated": "1", "aot": "0"}
"""Lane -> the value of TRITON_INTERPRET it needs."""

PIPE = "MOL_FAST_LANE_PIPE"
"""Environment variable with the file descriptor a child writes its reports to."""


def lane_of(item: pytest.Item) -> str | None:
    """The lane whose environment `item` needs and this process lacks."""
    interpreted = os.environ.get("TRITON_INTERPRET", "0")
    return next((lane for lane, flag in LANES.items() if item.get_closest_marker(lane) and flag != interpreted), None)


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


CHILDREN = pytest.StashKey[dict[str, Child]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    lane = lane_of(item)
    if lane is None:
        return None
    children = item.session.stash.setdefault(CHILDREN, {})
    if lane not in children:
        selected = [other for other in item.session.items if lane_of(other) == lane]
        children[lane] = Child(lane, selected, item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in children[lane].reports_of(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # What an earlier test of this process has left set up for this one's module ends with the module.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    for child in session.stash.get(CHILDREN, {}).values():
        child.close()


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
