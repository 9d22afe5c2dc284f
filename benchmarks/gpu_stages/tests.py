"""Stage 5: run the tests that need a GPU.

With pytest-xdist, one pytest runs many processes. Without it, each file has its own pytest, several at once, so that a
fault on the GPU affects the tests of one file at most.
"""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_stages import processes
from gpu_stages.card import cores
from gpu_stages.context import Context
from gpu_stages.reports import VARIABLE

JUNIT = "junit.xml"
AT_ONCE = 4
"""Number of files at once, without pytest-xdist."""
MOST_PROCESSES = 12
STOP = 8.0
"""Seconds before the end when pytest is asked to stop, so that it writes its file."""
MOST_FAILURES = 40
MOST_JUNIT = 4 * 2**20
"""Bytes."""
GPU = re.compile(r"\bgpu\b|each_run|first_runs|on_gpu")
"""Pattern that files of GPU tests contain."""


def run(context: Context) -> None:
    if importlib.util.find_spec("pytest") is None:
        raise RuntimeError("pytest is not installed")
    reports = context.scratch / "reports.jsonl"
    files = found(context.root)
    if context.rehearsal:
        files = [path for path in files if path.match("kernels/test_correlation.py")]
    if importlib.util.find_spec("xdist"):
        count = min(MOST_PROCESSES, max(1, cores() - 2))
        waves = [[[*map(str, files), "-n", str(count), "--dist", "worksteal"]]]
    else:
        arguments = [[str(path)] for path in files]
        waves = [arguments[start : start + AT_ONCE] for start in range(0, len(arguments), AT_ONCE)]
    junits = []
    for wave in waves:
        started = []
        for arguments in wave:
            junits.append(context.scratch / f"junit-{len(junits)}.xml")
            started.append(start(context, arguments, junits[-1], reports))
        for process in started:
            stop_at_end(context, process)
        if context.left() < STOP:
            break
    merge([path for path in junits if path.exists()], context.out / JUNIT)
    summary = summarise(reports)
    context.record("tests", xdist=bool(importlib.util.find_spec("xdist")), files=len(files), **summary)
    if summary["failed"] or summary["unfinished"] or not summary["outcomes"]:
        count = summary["outcomes"].get("failed", 0)
        raise RuntimeError(f"{count} tests failed, {len(summary['unfinished'])} did not end")


def found(root: Path) -> list[Path]:
    """Return the files of the checkout `root` with tests for a GPU."""
    return [path for path in sorted((root / "tests").rglob("test_*.py")) if GPU.search(path.read_text())]


def start(context: Context, arguments: list[str], junit: Path, reports: Path) -> "subprocess.Popen[bytes]":
    options = [
        "-m",
        "gpu",
        "-q",
        "-p",
        "gpu_stages.reports",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "-rN",
        "-o",
        "junit_logging=no",
        "-o",
        "pythonpath=",  # the checkout itself holds a mol_fast without its kernels
    ]
    options += ["--continue-on-collection-errors", "--rootdir", str(context.root), f"--junitxml={junit}"]
    environment = {**context.environment(), VARIABLE: str(reports)}
    if context.rehearsal:
        environment["TRITON_INTERPRET"] = "0"
    command = [sys.executable, "-m", "pytest", *arguments, *options]
    return subprocess.Popen(command, env=environment, cwd=context.root, stdin=subprocess.DEVNULL)


def stop_at_end(context: Context, process: "subprocess.Popen[bytes]") -> None:
    """Wait for pytest. Near the end ask it to stop, then kill it and its processes."""
    try:
        process.wait(max(0.1, context.left() - STOP))
        return
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(max(0.1, context.left() - STOP / 2))
    except subprocess.TimeoutExpired:
        family = processes.descendants(process.pid)
        process.kill()
        processes.kill_all(family)
        time.sleep(processes.POLL)


def summarise(reports: Path) -> dict[str, Any]:
    """Return counts of outcomes, failed tests with errors, unfinished tests, and the slowest tests."""
    last: dict[str, dict[str, Any]] = {}
    for line in reports.read_text().splitlines() if reports.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # cut off
            continue
        known = last.get(row["test"])
        if known is None or known["outcome"] in ("started", "passed"):
            last[row["test"]] = row
    outcomes: dict[str, int] = {}
    for row in last.values():
        outcomes[row["outcome"]] = outcomes.get(row["outcome"], 0) + 1
    failed = [{"test": test, "error": row["error"]} for test, row in last.items() if row["outcome"] == "failed"]
    slow = sorted((row for row in last.values() if "seconds" in row), key=lambda row: -row["seconds"])[:5]
    return {
        "outcomes": {name: count for name, count in outcomes.items() if name != "started"},
        "failed": failed[:MOST_FAILURES],
        "unfinished": [test for test, row in last.items() if row["outcome"] == "started"][:MOST_FAILURES],
        "slowest": [{"test": row["test"], "seconds": row["seconds"]} for row in slow],
    }


def merge(parts: list[Path], target: Path) -> None:
    """Merge several junit files into one."""
    root = ElementTree.Element("testsuites")
    for part in parts:
        try:
            root.extend(ElementTree.parse(part).getroot().findall("testsuite"))
        except ElementTree.ParseError:  # pytest was killed while it wrote
            continue
    data = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    if len(data) <= MOST_JUNIT:
        target.write_bytes(data)
