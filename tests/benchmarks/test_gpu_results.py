"""What a GPU session leaves: records, tiles that a search found, tables of results, and what is said of bad records."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import gpu_results
from gpu_stages import plan, records
from gpu_stages.search import Search, merge, moves, tree


@pytest.mark.parametrize("damage", ["", "no JSON\n", '{"kind": 3}\n', '["run"]\n'])
def test_damaged_records_are_refused(damage: str, tmp_path: Path) -> None:
    file = tmp_path / records.FILE
    file.write_text(damage)
    with pytest.raises(records.DamagedRecords, match=r"results\.jsonl"):
        records.read(file)


def test_search_goes_on_from_the_best() -> None:
    search = Search("CCC", "bfloat16", "forward", "ccc_edges_kernel", {"BD": 64, "num_stages": 2}, ["128x256"], 100)
    search.based(1.0)
    first = [search.take() for _ in range(4)]
    assert first == list(moves(search.base))
    assert [tuple(tile.values()) for tile in first if tile] == [(32, 2), (128, 2), (64, 1), (64, 3)]
    assert search.take() is None
    assert not search.found(first[0], 0.999)  # noise
    assert search.found(first[1], 0.8)
    assert not search.found(first[3], 0.9)
    assert search.best == first[1]
    around = [search.take() for _ in range(3)]
    assert around == [{"BD": 256, "num_stages": 2}, {"BD": 128, "num_stages": 1}, {"BD": 128, "num_stages": 3}]
    assert search.take() is None


def test_search_is_limited() -> None:
    search = Search("CCC", "bfloat16", "forward", "ccc_edges_kernel", {"BD": 64, "num_stages": 2}, ["128x256"], 1)
    assert search.take() is not None
    assert search.take() is None


def test_tables_of_tiles_merge() -> None:
    row = {"kernel": "k", "classes": ["a", "b"], "dtype": "float32", "best": {"BD": 32}}
    table = merge({"H": {"k": {"a": {"bfloat16": {"tile": {}}}}}}, tree([row], "H", "run"))
    found = {"tile": {"BD": 32}, "run": "run"}
    assert table == {"H": {"k": {"a": {"bfloat16": {"tile": {}}, "float32": found}, "b": {"float32": found}}}}


def a_run(**header: Any) -> list[dict[str, Any]]:
    """Records of a run in which the training step was killed and an operator failed."""
    machine = {"torch": "2.11.0", "triton": "3.6.0", "cuda": "13.0"}
    case = {"kind": "time", "stage": "times", "name": "F5C", "maps": 448, "dtype": "bfloat16", "training": True}
    tuned = {"operator": "CCC", "dtype": "bfloat16", "phase": "forward", "classes": ["128x256"], "base": {"BD": 64}}
    tuned |= {"kind": "tuned", "best": {"BD": 32}, "measured": 9, "base_s": 2e-4, "best_s": 1e-4}
    return [
        {"kind": "run", "version": 1, "started": "2030-01-02T03:04:05+00:00", "commit": "0123456789abcdef",
         "seconds": 520, "rehearsal": False, "stages": list(plan.NAMES[:-1]), **header},
        {"kind": "stage", "stage": "card", "state": "done", "seconds": 9.0},
        {"kind": "card", "stage": "card", "name": "NVIDIA H100 80GB HBM3", "machine": machine},
        {"kind": "ceilings", "copy": 3e12, "product": {"bfloat16": 8e14, "float32": 1.3e14}},
        {"kind": "smoke", "operator": "CCC", "dtype": "bfloat16", "maps": 448, "ok": True, "problem": None},
        {"kind": "smoke", "operator": "FCC", "dtype": "float32", "maps": 448, "ok": False, "problem": "it died"},
        {"kind": "stage", "stage": "smoke", "state": "done", "seconds": 9.0},
        {**tuned, "kernel": "ccc_edges_kernel", "kept": True},
        {**tuned, "kernel": "ccc_neighbours_kernel", "kept": False},
        {"kind": "tuning_base", "operator": "FCC", "dtype": "float32", "problem": "it failed in smoke"},
        {"kind": "confirmed", "operator": "CCC", "dtype": "bfloat16", "phase": "backward", "kept": False,
         "problem": "no time was left"},
        {"kind": "confirmed", "operator": "CCC", "dtype": "bfloat16", "phase": "forward", "problem": None},
        {"kind": "stage", "stage": "tuning", "state": "done", "seconds": 9.0},
        {**case, "backend": "triton", "kernel_s": 2e-4, "eager_s": 3e-4, "floor_s": 1e-4},
        {**case, "backend": "torch", "kernel_s": None, "eager_s": 2e-3, "floor_s": 1e-4},
        {**case, "backend": "torch.compile", "problem": "it hung"},
        {"kind": "stage", "stage": "times", "state": "done", "seconds": 9.0},
        {"kind": "stage", "stage": "training", "state": "killed", "seconds": 60.0},
        {"kind": "tests", "outcomes": {"passed": 5}, "failed": [], "unfinished": []},
        {"kind": "stage", "stage": "tests", "state": "done", "seconds": 9.0},
        {"kind": "error", "stage": "memcheck", "error": "RuntimeError: compute-sanitizer is not installed"},
        {"kind": "stage", "stage": "memcheck", "state": "failed", "seconds": 0.1},
        {"kind": "end", "state": "done", "seconds": 300.0, "wrong": []},
    ]  # fmt: skip


def written(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """The arguments that make tables of these records."""
    folder.mkdir(exist_ok=True)
    (folder / records.FILE).unlink(missing_ok=True)
    for row in rows:
        records.append(folder / records.FILE, row)
    return [str(folder), "--results", str(folder / "results"), "--tiles", str(folder / "tiles.json")]


def test_results_hold_what_was_measured_and_name_what_was_not(tmp_path: Path) -> None:
    (tmp_path / "tiles.json").write_text('{"NVIDIA A100": {"k": {}}}')
    assert gpu_results.main(written(tmp_path, a_run())) == 0
    name = "nvidia-h100-80gb-hbm3"
    text = (tmp_path / "results" / f"{name}.md").read_text()
    assert "| F5C forward+backward (N = 448) | bfloat16 | 200 µs | 300 µs |  |  | 100 µs | 50% |" in text
    assert "1 of 2 checks of operators within their budget." in text
    assert "GPU tests: 5 passed." in text
    for gap in (
        "training: was killed at its deadline, after 60 s.",
        "memcheck: RuntimeError: compute-sanitizer is not installed.",
        "tools: was not asked for.",
        "FCC float32 fails: it died.",
        "tiles of FCC float32 stay as they are pinned: it failed in smoke.",
        "tiles of CCC bfloat16 backward stay as they are pinned: no time was left.",
        "F5C forward+backward (N = 448), torch.compile bfloat16: it hung.",
    ):
        assert f"- {gap}\n" in text
    assert "training step" not in text
    found = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert found["ceilings"]["copy"] == 3e12
    assert found["steps"] == []
    assert (tmp_path / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    tiles = json.loads((tmp_path / "tiles.json").read_text())
    assert tiles["NVIDIA A100"] == {"k": {}}
    (row,) = tiles["NVIDIA H100 80GB HBM3"]["ccc_edges_kernel"]["128x256"].values()
    assert row["tile"] == {"BD": 32}
    assert row["run"] == f"benchmarks/results/{name}.json, 2030-01-02, commit 0123456789, torch 2.11.0, triton 3.6.0"
    assert list(tiles["NVIDIA H100 80GB HBM3"]) == ["ccc_edges_kernel"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (a_run()[:-1], "was cut off before its end"),
        (a_run(version=0), "is not a run of this version"),
        (a_run(rehearsal=True), "is a rehearsal"),
        ([row for row in a_run() if row["kind"] != "card"], "does not know its card"),
        ([{key: value for key, value in row.items() if key != "floor_s"} for row in a_run()], "is damaged"),
        ([{**row, "product": None} if row["kind"] == "ceilings" else row for row in a_run()], "is damaged"),
        ([{**row, "name": "?"} if row["kind"] == "card" else row for row in a_run()], "does not know its card"),
    ],
)
def test_runs_that_are_not_whole_are_refused(
    rows: list[dict[str, Any]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_results.main(written(tmp_path, rows)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [records.FILE]


@pytest.mark.parametrize("damage", ['{"NVIDIA', "[]", "3"])
def test_a_damaged_table_of_tiles_is_refused(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiles.json").write_text(damage)
    assert gpu_results.main(written(tmp_path, a_run())) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'tiles.json'} is no table of tiles: " in error
    assert len(error.splitlines()) == 1
    assert (tmp_path / "tiles.json").read_text() == damage
    assert not (tmp_path / "results").exists()


def test_a_run_that_was_cut_off_can_be_taken(tmp_path: Path) -> None:
    assert gpu_results.main([*written(tmp_path, a_run()[:15]), "--partial"]) == 0
    text = (tmp_path / "results" / "nvidia-h100-80gb-hbm3.md").read_text()
    assert "- times: was not reached.\n" in text
