"""The benchmark of spotting, made small: a photograph has no moment, and the table counts what was measured."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "spotting.py"


@pytest.fixture
def benchmark_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("spotting_benchmark", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SECONDS", 1.5)
    return module


def test_a_photograph_has_no_moment_and_is_measured_once(
    benchmark_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    monkeypatch.setattr(benchmark_file, "VIDEOS", (("still", 1),))
    monkeypatch.setattr(benchmark_file, "FIRST_SUBJECT", 0)
    options = ["--results", str(results), "--sets", str(tmp_path / "sets"), "--fps", "30"]
    monkeypatch.setattr(sys, "argv", ["spotting.py", *options])
    benchmark_file.main()
    (row,) = map(json.loads, results.read_text().splitlines())
    assert row["found"]["spotter"] == row["true"] == []
    assert row["frames"] == 45
    benchmark_file.main()
    assert len(results.read_text().splitlines()) == 1
    printed = capsys.readouterr()
    assert "| still | 30 | 1 | spotter |  |  |  | 0.00 |  |" in printed.out
    assert printed.err == ""
    results.write_text(json.dumps({**row, "version": "of an earlier spotter"}) + "\n")
    benchmark_file.main()
    assert capsys.readouterr().err == "note: the spotter has changed since 1 of 1 videos were measured\n"


def test_only_what_code_does_makes_another_version(benchmark_file: ModuleType) -> None:
    code = "import a\n\n\ndef f(x: int) -> int:\n    'Doc.'\n    import b\n\n    return x + 1  # comment\n"
    assert benchmark_file.digest([code]) == benchmark_file.digest(["def f(x: int) -> int: return (x + 1)"])
    assert benchmark_file.digest([code]) != benchmark_file.digest([code.replace("+ 1", "+ 2")])


def test_the_table_counts_what_was_measured(benchmark_file: ModuleType) -> None:
    def one(onset: int, offset: int) -> dict[str, object]:
        return {"onset": onset, "offset": offset, "kind": "micro", "apex": None, "label": None}

    row = {
        "subject": 20,
        "scene": "expressions",
        "fps": 30.0,
        "frames": 900,
        "true": [one(100, 110), one(300, 310)],
        "found": {"spotter": [one(101, 113), one(500, 510)], "main direction": []},
        "core_seconds": {"spotter": 9.0, "main direction": 4.5},
    }
    lines = list(benchmark_file.table([row]))
    assert lines[2:] == [
        "| expressions | 30 | 1 | spotter | 0.50 |  | 0.50 | 2.00 | 1, 3 | 10.0 |",
        "| expressions | 30 | 1 | main direction | 0.00 |  | 0.00 | 0.00 |  | 5.0 |",
    ]
    assert {line.count("|") for line in lines} == {11}
