"""Locks: one holder at a time, named to the others, and given up by a process that ends."""

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mol_fast.utils.lock import Held, locked


def test_the_second_one_learns_who_holds_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file, "it is used"), pytest.raises(Held) as held, locked(file, "it is used"):
        pass
    assert str(held.value) == f"it is used by process {os.getpid()} on {platform.node()}: wait until that one has ended"
    with locked(file, "it is used"), locked(tmp_path / "another", "it is used"):
        pass


HOLDING = """
import os, sys, time
from pathlib import Path
from mol_fast.utils.lock import locked
with locked(Path(sys.argv[1]), ""):
    forked, tell = os.pipe()
    if os.fork() == 0:  # the child lets go of the lock as it begins
        os.write(tell, b"x")
        time.sleep(60)
    os.read(forked, 1)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_gives_it_up(tmp_path: Path) -> None:
    """Though a child of it lives, as one that reads clips does for some seconds."""
    file = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDING, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(Held, match=f"process {holder.pid} on"), locked(file, ""):
                pass
            holder.kill()
            holder.wait()
            with locked(file, ""):
                pass
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "lock", "it is used"):
        assert capfd.readouterr().err == (
            f"warning: {tmp_path} is on a disk without locks (No locks available); start no second run into it\n"
        )
