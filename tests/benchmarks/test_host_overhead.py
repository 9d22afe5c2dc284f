"""The script that compares the host's part with an earlier commit: its table, and what it says where it cannot."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import host_overhead


def test_counts_calls_of_python_and_of_built_in_functions() -> None:
    def run() -> None:
        len([])
        abs(-1)

    assert host_overhead.count(lambda: [len([]) for _ in range(9)].clear(), run) == 3


def test_an_unknown_commit_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="so it cannot be compared"):
        host_overhead.check_out("0" * 40, tmp_path)


def test_without_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="git is not installed"):
        host_overhead.check_out(host_overhead.BEFORE, tmp_path)


def test_the_table_has_both_and_their_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "calls before": 4000.0,
        "calls after": 500.0,
        "seconds before": 2e-3,
        "seconds after": 3e-4,
        "time ratio": 0.16,
    }
    host_overhead.show(dict.fromkeys(host_overhead.PASSES, row), "0000000")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-3:] == ["0000000", "now", "ratio"]
    assert lines[2].split() == ["Python", "calls", "4000", "500", "0.125"]
    assert lines[3].split() == ["time,", "us", "2000", "300", "0.160"]
