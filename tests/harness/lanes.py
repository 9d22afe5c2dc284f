"""The lanes that need a process of their own: `interpreter`, `sanitizer`, `emulated` and `aot`.

Triton decides at import whether its kernels are interpreted (TRITON_INTERPRET=1) or compiled, so one process
cannot do both. Tests of a lane are ordinary tests with `pytestmark = pytest.mark.interpreter` (or `aot`); their
modules may import kernels at the top, after `pytest.importorskip("triton")`. They are collected here like any
other. When this process does not have the lane's environment, a child process that has it runs the lane's tests, one
after the other as they are asked for here, and its reports are replayed here: selection, -x, --durations and junit
files work as usual. Extra environment goes to the child as it is.

A session, or a worker of pytest-xdist, has one child for all lanes that need the same environment: starting one takes
as long as many a test. Workers and what they start compute on one thread each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

WORKER = os.environ.pop("PYTEST_XDIST_WORKER", None)
"""Name of this process among the workers of pytest-xdist. What it starts must not take itself for that worker."""
if WORKER:  # before PyTorch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LANES = {"interpreter": "1", "sanitizer": "1", "emulated": "1", "aot": "0"}
"""Lane -> the value of TRITON_INTERPRET it needs."""

PIPES = "MOL_FAST_LANE_PIPES"
"""Environment variable with the file descriptors from which a child reads names of tests, and to which it reports."""


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
    """A pytest process that runs the tests it is asked for and streams their reports."""

    def __init__(self, flag: str, files: Iterable[Path], config: pytest.Config) -> None:
        self.flag, self.config = flag, config
        self.folder = tempfile.TemporaryDirectory()
        self.log = Path(self.folder.name, "log.txt")
        names, requests = os.pipe()
        lines, reports = os.pipe()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *map(str, files), "-p", "no:cacheprovider"],
                cwd=config.rootpath,
                env={**os.environ, "TRITON_INTERPRET": flag, PIPES: f"{names},{reports}"},
                pass_fds=[names, reports],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        os.close(names)
        os.close(reports)
        self.requests, self.lines = os.fdopen(requests, "w"), os.fdopen(lines)
        self.began = False
        """Whether it has run a test."""

    def run(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Reports of setup, call and teardown, as they come; a failure when the child ends before them."""
        with suppress(BrokenPipeError):
            print(item.nodeid, file=self.requests, flush=True)
        for line in self.lines:
            report = self.config.hook.pytest_report_from_serializable(config=self.config, data=json.loads(line))
            self.began = True
            yield report
            if report.when == "teardown":
                return
        yield self.died(item)

    def died(self, item: pytest.Item) -> pytest.TestReport:
        code = self.process.wait()
        text = f"the process with TRITON_INTERPRET={self.flag} ended with code {code}:\n{self.log.read_text()[-4000:]}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")

    @property
    def lost(self) -> bool:
        """Whether a test ended it: others may have a new one. One that cannot even begin would not in a new one."""
        return self.began and self.process.poll() is not None

    def close(self) -> None:
        """Let it end; one that is still at a test is stopped."""
        with suppress(BrokenPipeError):
            self.requests.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait()
        self.lines.close()
        self.folder.cleanup()


CHILDREN = pytest.StashKey[dict[str, Child]]()
"""By the value of TRITON_INTERPRET."""


def close_children(session: pytest.Session) -> None:
    children = session.stash.get(CHILDREN, {})
    while children:
        children.popitem()[1].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    lane = lane_of(item)
    if lane is None:
        return None
    children, flag = item.session.stash.setdefault(CHILDREN, {}), LANES[lane]
    if flag in children and children[flag].lost:
        children.pop(flag).close()
    if flag not in children:
        lanes = {other: lane_of(other) for other in item.session.items}
        files = dict.fromkeys(other.path for other, lane in lanes.items() if lane and LANES[lane] == flag)
        children[flag] = Child(flag, files, item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in children[flag].run(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # What an earlier test of this process has left set up for this one's module ends with the module.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    close_children(session)


class Server:
    """In a child: runs the tests that the parent names, and writes each report to the parent's pipe."""

    def __init__(self, config: pytest.Config, names: int, reports: int) -> None:
        self.config = config
        self.names, self.reports = os.fdopen(names), os.fdopen(reports, "w")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        following = dict(zip(session.items, [*session.items[1:], None], strict=True))
        items = {item.nodeid: item for item in session.items}
        for name in self.names:
            item = items[name.rstrip("\n")]
            session._setupstate.teardown_exact(item)  # what the one before has left for another than this
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=following[item])
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.reports.write(json.dumps(data) + "\n")
        self.reports.flush()


def pytest_configure(config: pytest.Config) -> None:
    if PIPES in os.environ:
        config.pluginmanager.register(Server(config, *map(int, os.environ.pop(PIPES).split(","))))
