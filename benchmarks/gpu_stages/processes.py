"""Processes that end: each with a deadline, after which it and all that it started are killed."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NamedTuple

GRACE = 2.0
"""Seconds that a killed process has to disappear; one that waits in the driver may take longer."""
POLL = 0.05


class Ended(NamedTuple):
    """How a process ended: its exit code, None if it was killed at its deadline, and its seconds."""

    code: int | None
    seconds: float


def start(command: list[str], environment: dict[str, str], log: IO[bytes], cwd: Path) -> "subprocess.Popen[bytes]":
    """Start `command` in a process group of its own, its output in `log`."""
    return subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies, however it dies."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def finish(process: "subprocess.Popen[bytes]", deadline: float) -> Ended:
    """Wait until `deadline` (of `time.monotonic`), then kill; afterwards nothing that `process` started is left."""
    began = time.monotonic()
    code: int | None = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(0.0, deadline - began))
    finally:
        kill(process)
    return Ended(code, time.monotonic() - began)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill `process`, its group, and its descendants that have left the group; wait a moment until it is gone."""
    family = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
    kill_all(family)
    limit = time.monotonic() + GRACE
    while process.poll() is None and time.monotonic() < limit:
        time.sleep(POLL)


def kill_all(pids: list[int]) -> None:
    """Kill those of the processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Children of `pid`, their children, and so on, as the kernel lists them; empty where it does not."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found
