"""Killing `prepare`: whatever the moment, nothing half-written is read as whole, and the next run ends the same."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from harness import forks
from harness.fake_releases import Fake, head, write_casme2, write_frames

from mol_fast import tvl1
from mol_fast.data import PreparedSet
from mol_fast.data.embedded.photographs import load_photograph
from mol_fast.preparation.folders import list_folders
from mol_fast.preparation.one_video import Settings
from mol_fast.preparation.whole_set import make_plan, prepare_set
from mol_fast.preparation.workers import Outcome
from mol_fast.prepare import main
from mol_fast.utils.errors import UserError
from mol_fast.vision.faces import Face

KILLS = 20
VIDEOS = 2


class StillFinder:
    """Sees the same face in every frame, so that most of the time goes into writing."""

    face = Face((0, 0, 10, 10), 1.0, (load_photograph("astronaut").landmarks.numpy() / 3).astype(np.float32), 1)

    def find(self, frame: npt.NDArray[np.uint8]) -> Face:
        return self.face

    def update(self, frame: npt.NDArray[np.uint8], last: Face) -> Face:
        return last


def difference(previous: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    return torch.stack([following - previous, previous], 1)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Videos of noise; their flow costs nothing, and disks are not waited for."""
    monkeypatch.setattr(tvl1, "flow", difference)
    monkeypatch.setattr("mol_fast.utils.files.os.fsync", lambda descriptor: None)
    rng = np.random.default_rng(0)
    for number in range(VIDEOS):
        frames = rng.integers(0, 256, (8, 64, 64), dtype=np.uint8)
        write_frames(tmp_path / f"release/fear/1_{number}", "{}.bmp", range(8), frames)
    return tmp_path / "release"


def prepare(release: Path, out: Path) -> list[Outcome]:
    return prepare_set(make_plan("mine", list_folders(release, "mine"), None), out, Settings(), StillFinder)[1]


def content(folder: Path) -> dict[str, bytes]:
    """All files but the lock, whose text names the process that held it last."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def in_child(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def check_not_whole_or_equal(out: Path, expected: dict[str, bytes]) -> None:
    """What a killed run leaves is refused, or complete."""
    try:
        PreparedSet.open(out)
    except UserError:
        return
    assert {name: data for name, data in content(out).items() if not name.startswith(".")} == expected


def test_killed_at_random_moments(release: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's other threads
    started = time.perf_counter()
    prepare(release, tmp_path / "whole")
    duration = time.perf_counter() - started
    expected = content(tmp_path / "whole")
    rng = random.Random(0)
    out, kills = tmp_path / "0", 0
    for attempt in range(1, 50 * KILLS):
        child = in_child(lambda out=out: prepare(release, out))
        child.join(rng.uniform(0, duration))
        child.kill()
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        check_not_whole_or_equal(out, expected)
        if child.exitcode == 0 or rng.random() < 0.2:
            prepare(release, out)
            assert content(out) == expected
            out = tmp_path / str(attempt)
        if kills == KILLS:
            break
    assert kills == KILLS
    prepare(release, out)
    assert content(out) == expected


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_rename(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    """Files become visible by renames only: a run that ends at any of them, just before or just after, goes on."""
    torch.set_num_threads(1)
    prepare(release, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    renames = len(expected.keys() - {"records/.lock"})
    rename = os.replace

    def run_until(last: int, out: Path) -> None:
        count = 0

        def counted(source: str, target: str) -> None:
            nonlocal count
            count += 1
            if after or count < last:
                rename(source, target)
            if count == last:
                os._exit(9)

        monkeypatch.setattr("mol_fast.utils.files.os.replace", counted)
        prepare(release, out)

    for last in range(1, renames + 2):
        out = tmp_path / str(last)
        child = in_child(lambda last=last, out=out: run_until(last, out))
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == 9
        check_not_whole_or_equal(out, expected)
        done = len(list(out.rglob("records/1/*.json")))
        outcomes = prepare(release, out)
        assert [outcome.made for outcome in outcomes].count(False) == done  # only the video in work is made again
        assert content(out) == expected
    assert last == renames + 1


def test_workers_end_with_their_parent_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """The program itself, killed while two workers are at it."""
    root = write_casme2(tmp_path / "release", [Fake(i, "a", "fear") for i in range(1, 5)])
    assert head().shape == (9, 176, 176)
    out = tmp_path / "out"
    options = ["casme2", "--root", str(root), "--out", str(out), "--workers", "2"]
    process = forks.start(main, options, tmp_path / "printed")
    while not list(out.rglob("records/*/*.json")) and process.is_alive():
        time.sleep(0.01)
    assert process.pid is not None
    children = _children(process.pid)
    process.kill()
    process.join()
    assert len(children) >= 2
    while any(_runs(pid) for pid in children):
        time.sleep(0.01)
    with pytest.raises(UserError, match="not a prepared set"):
        PreparedSet.open(out)
    for folder in (out, tmp_path / "whole"):
        assert main(["casme2", "--root", str(root), "--workers", "1", "--out", str(folder)]) == 0
    assert content(out) == content(tmp_path / "whole")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
