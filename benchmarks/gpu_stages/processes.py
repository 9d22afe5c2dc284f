"""Processes with a deadline, after which they and all their descendants are killed."""

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
"""Seconds for a killed process to disappear; one that waits in the driver may take longer."""
POLL = 0.05


class Ended(NamedTuple):
    """End of a process: exit code (None if killed at its deadline) and seconds."""

    code: int | None
    seconds: float


def start(command: list[str], environment: dict[str, str], log: IO[bytes], cwd: Path) -> "subprocess.Popen[bytes]":
    """Start `command` in its own process group, with output to `log`."""
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
    """Let the operating system kill this process when its parent dies, for any reason."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def finish(process: "subprocess.Popen[bytes]", deadline: float) -> Ended:
    """Wait until `deadline` (of `time.monotonic`), then kill `process` and all its descendants."""
    began = time.monotonic()
    code: int | None = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(0.0, deadline - began))
    finally:
        kill(process)
    return Ended(code, time.monotonic() - began)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill `process`, its group, and descendants outside the group; wait a moment until it is gone."""
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
    """Kill the processes that are still alive."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return all descendants of `pid`, from /proc; empty without /proc."""
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
