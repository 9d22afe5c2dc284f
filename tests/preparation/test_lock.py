"""Two runs of `prepare` into the same folder: the second one stops, and the first one does not notice."""

import contextlib
import os
import platform
import signal
import time
from pathlib import Path

import pytest
from harness import forks
from harness.fake_releases import Fake, write_casme2
from harness.forks import Program

from mol_fast.data import PreparedSet
from mol_fast.prepare import main

VIDEOS = 4


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = [Fake(number, "EP01_01f", "fear") for number in range(1, VIDEOS + 1)]
    return write_casme2(tmp_path_factory.mktemp("casme2"), videos)


def options(release: Path, out: Path) -> list[str]:
    return ["casme2", "--root", str(release), "--out", str(out), "--workers", "1"]


def done(out: Path) -> int:
    """Number of videos that are prepared."""
    return len(list(out.rglob("records/*/*.json")))


def stopped_run(release: Path, out: Path) -> Program:
    """The program in processes of its own, halted when some of the videos are done."""
    process = forks.start(main, options(release, out), out.with_name("printed"))
    while not done(out) and process.is_alive():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGSTOP)
    assert 1 <= done(out) < VIDEOS
    return process


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("finder")
@pytest.mark.parametrize("killed", [False, True])
def test_the_second_run_stops(release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], killed: bool) -> None:
    """While the first one lives: when it is done or dead, the folder can be used."""
    out = tmp_path / "out"
    first = stopped_run(release, out)
    try:
        before, kept = content(out), done(out)
        assert main(options(release, out)) == 2
        error = capfd.readouterr().err
        holder = f"process {first.pid} on {platform.node()}"
        assert error == f"error: --out {out} is being prepared by {holder}: wait until that one has ended\n"
        assert content(out) == before
        if not killed:
            os.killpg(first.pid, signal.SIGCONT)
            assert first.end() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.join()
    assert main(options(release, out)) == 0
    assert f"{kept if killed else VIDEOS} were done before" in capfd.readouterr().out
    assert len(PreparedSet.open(out).videos) == VIDEOS
