"""The script for a GPU machine: its plan, its clock, what it leaves after faults, and a rehearsal of it on a CPU.

Stages that hang, raise or are killed are small stand-ins in a copy of the script; the rehearsal runs the real ones.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import gpu_results
from gpu_stages import checkout, plan, records
from gpu_stages.context import VARIABLE, Context, Sizes
from gpu_stages.search import moves

BENCHMARKS = Path(gpu_results.__file__).parent
COMPUTE_SANITIZER = """#!/bin/sh
while [ $# -gt 0 ]; do case "$1" in --*) shift 2 ;; *) break ;; esac; done
"$@" || exit 9
echo "========= ERROR SUMMARY: 0 errors"
"""
NCU = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in --csv) shift ;; --log-file) file=$2; shift 2 ;; --*) shift 2 ;; *) break ;; esac
done
"$@" || exit 1
echo '==PROF== Connected to process' > "$file"
echo '"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"' >> "$file"
echo '"0","ccc_edges_kernel","GPU Speed Of Light Throughput","Duration","us","1.5"' >> "$file"
"""
STAND_INS = {"compute-sanitizer": COMPUTE_SANITIZER, "ncu": NCU}


def session(folder: Path, *options: str, script: Path = BENCHMARKS / "gpu_session.py") -> "subprocess.Popen[str]":
    command = [sys.executable, str(script), "--out", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def states(folder: Path) -> dict[str, str]:
    return {row["stage"]: row["state"] for row in records.of_kind(records.read(folder / records.FILE), "stage")}


def test_plan_adds_up() -> None:
    ends = plan.planned(plan.SECONDS)
    assert [item.stage.name for item in ends] == list(plan.NAMES)
    assert ends[-1].end + plan.RESERVE <= plan.SECONDS == 520
    starts = [0.0, *(item.end for item in ends)]
    assert [end - start for start, (_, end) in zip(starts, ends, strict=False)] == [
        item.seconds for item in plan.STAGES
    ]
    assert plan.planned(265)[-1].end == pytest.approx(255)
    (alone,) = plan.planned(300, only=["tuning"])
    assert alone.end == 290


def test_dry_run_prints_the_plan_and_does_nothing(tmp_path: Path) -> None:
    process = session(tmp_path / "out", "--dry-run")
    text, _ = process.communicate()
    assert process.returncode == 0
    assert not (tmp_path / "out").exists()
    assert all(f"{stage.seconds:.1f}" in text and stage.what in text for stage in plan.STAGES)
    assert "together 520 of 520 seconds; compile runs beside" in text
    text, _ = session(tmp_path / "out", "--dry-run", "--only", "card", "tests").communicate()
    assert text.endswith("together 520 of 520 seconds\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "smoke", "cards"], "there is no stage 'cards', choose among card, smoke"),
        (["--skip", *plan.NAMES], "no stage is left"),
        (["--seconds", "5"], "--seconds must be between 30 and 86400, got 5"),
        (["--seconds", "nan"], "--seconds must be between 30 and 86400, got nan"),
        (["--seconds", "inf"], "--seconds must be between 30 and 86400, got inf"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(options: list[str], message: str, tmp_path: Path) -> None:
    process = session(tmp_path / "out", *options)
    text, error = process.communicate()
    assert process.returncode == 2
    assert message in error
    assert not text
    assert len(error.splitlines()) == 1


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    process = session(tmp_path)
    _, error = process.communicate()
    assert process.returncode == 2
    assert "holds something already" in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy of the script in a checkout of empty packages, with four stages of stand-ins and a short clock."""
    root = tmp_path / "checkout"
    shutil.copytree(BENCHMARKS / "gpu_stages", root / "benchmarks" / "gpu_stages")
    shutil.copy(BENCHMARKS / "gpu_session.py", root / "benchmarks")
    for name in ("mol_fast", "kernels", "reference"):
        (root / name).mkdir()
    stages = root / "benchmarks" / "gpu_stages"
    with (stages / "plan.py").open("a") as file:
        file.write(
            "\nLEAST, RESERVE = 1, 1\n"
            "STAGES = (Stage('card', 4, ''), Stage('smoke', 1, ''), Stage('tuning', 4, ''), Stage('times', 4, ''))\n"
            "NAMES = tuple(stage.name for stage in STAGES)\n"
        )
    for name, body in {
        "card": "context.record('found', number=float('nan'), text='x' * 9999)",
        "smoke": (
            "import pathlib, signal, subprocess, sys, time\n"
            "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "    sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
            "    child = subprocess.Popen(sleep, start_new_session=True)\n"
            "    (context.out / 'child').write_text(str(child.pid))\n"
            "    context.record('found', number=1)\n"
            "    time.sleep(600)"
        ),
        "compile": "context.record('beside')",
        "tuning": "raise ValueError('tiles are gone\\nsecond line')",
        "times": "context.record('found', number=2, failed=context.failed)",
    }.items():
        (stages / f"{name}.py").write_text(f"def run(context):\n    {body}\n")
    return root / "benchmarks" / "gpu_session.py"


def gone(pid: int) -> bool:
    """Whether a process has ended, or waits for nothing but to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed in /proc")
def test_a_stage_that_hangs_is_killed_and_one_that_raises_stops_no_other(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = session(out, "--seconds", "14", script=script)
    text, error = process.communicate(timeout=60)
    assert process.returncode == 1, error
    assert states(out) == {"card": "done", "smoke": "killed", "tuning": "failed", "times": "done"}
    assert "smoke was killed at its deadline" in text
    assert "tuning failed" in text
    rows = records.read(out / records.FILE)
    (raised,) = records.of_kind(rows, "error")
    assert raised["error"] == "ValueError: tiles are gone"
    assert [row["number"] for row in records.of_kind(rows, "found")] == [None, 1, 2]
    assert len(records.of_kind(rows, "found")[0]["text"]) == records.MOST_TEXT
    assert records.of_kind(rows, "beside")
    assert rows[-1]["kind"] == "end"
    assert gone(int((out / "child").read_text()))  # in a group of its own


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the children of a killed process on Linux")
def test_results_survive_a_kill(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = session(out, "--seconds", "600", script=script)
    end = time.monotonic() + 60
    while not (out / "child").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    rows = records.read(out / records.FILE)
    assert states(out) == {"card": "done", "smoke": "started"}
    assert [row["number"] for row in records.of_kind(rows, "found")] == [None, 1]
    with (out / records.FILE).open("a") as file:
        file.write('{"kind": "found", "numb')  # as a kill in the middle of a line leaves it
    assert records.read(out / records.FILE) == rows
    os.kill(int((out / "child").read_text()), signal.SIGKILL)


def test_a_signal_ends_the_run_in_order(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = session(out, "--seconds", "600", script=script)
    end = time.monotonic() + 60
    while not (out / "child").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a signal stopped the run" in text
    assert records.read(out / records.FILE)[-1]["state"] == "stopped"
    assert gone(int((out / "child").read_text()))


def test_a_worker_that_dies_or_hangs_is_replaced(script: Path, tmp_path: Path) -> None:
    """Asked in turn, with half a second for the one that hangs."""
    stages = script.parent / "gpu_stages"
    (stages / "faulty.py").write_text(
        "import os, time\n"
        "def fine():\n    print('no reply')\n    return os.getpid()\n"
        "def fail():\n    raise ValueError('wrong')\n"
        "def die():\n    os._exit(3)\n"
        "def hang():\n    time.sleep(600)\n"
    )
    (stages / "times.py").write_text(
        "from gpu_stages.worker import Worker\n"
        "def run(context):\n"
        "    with Worker(context) as worker:\n"
        "        for task in ('fine', 'fail', 'fine', 'die', 'fine', 'hang', 'fine'):\n"
        "            reply = worker.ask('faulty.' + task, 0.5 if task == 'hang' else 30.0)\n"
        "            context.record('asked', state=reply.state, value=reply.value, error=reply.error)\n"
    )
    process = session(tmp_path / "out", "--only", "times", "--seconds", "100", script=script)
    text, error = process.communicate(timeout=120)
    assert process.returncode == 0, text + error
    rows = records.of_kind(records.read(tmp_path / "out" / records.FILE), "asked")
    assert [row["state"] for row in rows] == ["ok", "failed", "ok", "died", "ok", "hung", "ok"]
    assert [row["error"] for row in rows if row["error"]] == [
        "ValueError: wrong", "the process ended with code 3", "it did not end in time",
    ]  # fmt: skip
    first, second, third, fourth = (row["value"] for row in rows if row["state"] == "ok")
    assert first == second
    assert len({first, third, fourth}) == 3


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The tasks on kernels, at the sizes of a run, in this process."""
    pytest.importorskip("triton")
    context = Context(BENCHMARKS.parent, tmp_path, tmp_path, 0.0)
    monkeypatch.setenv(VARIABLE, context.environment()[VARIABLE])
    from gpu_stages import kernels

    return kernels


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("maps", [448, 14, "small", "odd"])
def test_kernels_of_a_run_are_listed(kernels: Any, maps: int | str, dtype: str) -> None:
    """Every kernel has its pass, tiles as they can be overridden, and classes as the table has them."""
    from mol_fast.kernels import tiles

    known = tiles.tunable()
    seen = set()
    for name in Sizes().operators:
        for row in kernels.listed(name, maps, dtype):
            assert row["pass"] in ("forward", "backward")
            assert row["classes"]
            tiles.check({row["kernel"]: row["tile"]}, "listed")
            for tile in moves(row["tile"]):
                tiles.check({row["kernel"]: tile}, "moves")
            seen.add(row["kernel"])
    assert seen <= set(known)
    assert len(seen) > 10


RARE = ("lightning_fabric", "lightning_utilities", "tyro", "docstring_parser", "openpyxl", "et_xmlfile")
"""Packages that a GPU machine may not have."""
BARE = f"""
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(cls, name, *others):
    return None if name.partition(".")[0] in {RARE} else find(name, *others)
PathFinder.find_spec = classmethod(find_spec)
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""
"""Of a Python without those packages, in which this project is not installed."""


def test_gpu_tests_are_found_without_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from gpu_stages import tests

    (tmp_path / "sitecustomize.py").write_text(BARE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    context = Context(BENCHMARKS.parent, tmp_path, tmp_path, time.monotonic() + 600, rehearsal=True)
    checkout.link(context.root, context.table().parents[2])
    files = tests.found(context.root)
    reports = tmp_path / "reports.jsonl"
    process = tests.start(context, [*map(str, files)], tmp_path / "junit.xml", reports)
    assert process.wait() == 0, reports.read_text()
    found = tests.summarise(reports)["outcomes"]
    assert set(found) == {"skipped"}
    assert found["skipped"] > 100


def test_a_session_measures_from_the_pinned_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOL_FAST_TILES", "mine.json")
    context = Context(BENCHMARKS.parent, tmp_path, tmp_path, 0.0)
    assert "MOL_FAST_TILES" not in context.environment()


def test_rehearsal(tmp_path: Path) -> None:
    """Everything of a run on a GPU, at tiny sizes, with stand-ins for the clock of the GPU and for NVIDIA's tools."""
    pytest.importorskip("triton")
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    out = tmp_path / "out"
    command = [sys.executable, str(BENCHMARKS / "gpu_session.py"), "--rehearse", "--out", str(out), "--seconds", "3600"]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    log = (out / "log.txt").read_text()
    rows = records.read(out / records.FILE)
    assert states(out) == dict.fromkeys(plan.NAMES, "done"), log[-20000:]
    assert done.returncode == 0, done.stdout
    assert not [row for row in rows if row.get("problem") and row["kind"] != "candidate"]
    kinds = {row["kind"] for row in rows}
    assert kinds >= {"card", "ceilings", "smoke", "candidate", "tuned", "compiled", "time", "profile", "step"}
    assert kinds >= {"tests", "memcheck", "ncu", "doctor", "end"}
    files = sorted(path.name for path in out.iterdir())
    assert files == ["doctor.json", "junit.xml", "log.txt", "profile.txt", "results.jsonl", "tiles.json"]
    assert gpu_results.main([str(out)]) == 2
    others = ["--results", str(tmp_path / "results"), "--tiles", str(tmp_path / "tiles.json")]
    assert gpu_results.main([str(out), "--rehearsal"]) == 2
    assert gpu_results.main([str(out), "--rehearsal", *others]) == 0
    (text,) = (path.read_text() for path in (tmp_path / "results").glob("*.md"))
    assert "(rehearsal on a CPU)" in text
    assert "- nothing." in text
