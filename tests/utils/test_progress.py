"""Progress where stderr is no terminal: lines with rate and time left."""

import time

import pytest

from mol_fast.cli import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be moved by the test."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_tell_rate_and_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("video", every=5) as begin:
        advance = begin("preparing", 1000)
        for _ in range(10):
            clock[0] += 2
            advance()
    assert capsys.readouterr().err.splitlines() == [
        "preparing video 5/1000, 0.50 videos/s, 33 min left",
        "preparing video 10/1000, 0.50 videos/s, 33 min left",
    ]


def test_slow_work_tells_something_every_half_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("frame") as begin:
        advance = begin("spotting", 8)
        for _ in range(8):
            clock[0] += 12
            advance()
    assert capsys.readouterr().err.splitlines() == [
        "spotting frame 3/8, 0.08 frames/s, 60 s left",
        "spotting frame 6/8, 0.08 frames/s, 24 s left",
    ]


def test_what_an_earlier_run_did_is_no_speed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("step", every=10) as begin:
        advance = begin("fold 1/1 a", 500)
        for step in range(491, 501):
            clock[0] += 1
            advance(step, note="flow 0.1" if step == 500 else "")
        begin("fold 2/2 b", 20)(20)
    assert capsys.readouterr().err.splitlines() == ["fold 1/1 a step 500/500: flow 0.1", "fold 2/2 b step 20/20"]
    with progress("step", every=10) as begin:
        advance = begin("fold 1/1 a", 500)
        for step in range(401, 411):
            clock[0] += 1
            advance(step)
    assert capsys.readouterr().err == "fold 1/1 a step 410/500, 1.00 steps/s, 90 s left\n"


def test_fast_work_without_lines_is_silent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("frame") as begin:
        advance = begin("spotting", 8)
        for _ in range(8):
            clock[0] += 1
            advance()
    assert capsys.readouterr().err == ""
