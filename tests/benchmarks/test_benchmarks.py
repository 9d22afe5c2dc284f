"""The benchmarks keep what they promise: no time for a wrong result, arithmetic by the book, tables of what was run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from harness.compare import seeded
from harness.fake_gpu import FakeGPU
from torch import Tensor

from mol_fast.checks import timing

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import budget
import counts
import gate
import measure
import scaling
import table

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
X = seeded(50, dtype=torch.float64)


def results(output: Tensor, gradient: Tensor) -> gate.Results:
    return gate.Results({"output": output}, {"weight": gradient, "calls": torch.tensor(1)})


def test_gate_lets_roundings_pass() -> None:
    passed = gate.refuse_wrong(results(X.float(), X.float()), results(X, X), gate.Errors(0.0, 0.0), torch.float32)
    assert 0 < passed["error"] <= passed["budget"] == torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("actual", "part"),
    [
        (results(X * 1.001, X), "outputs"),
        (results(X, X * 1.001), "gradients"),
        (results(X * torch.nan, X), "outputs"),
        (results(X[:49], X), "result"),
        (gate.Results({"output": X}, {"weight": X}), "result"),
        (gate.Results({"output": X}, {"weight": X, "calls": torch.tensor(2)}), "result"),
    ],
)
def test_gate_refuses(actual: gate.Results, part: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"wrong {part}, nothing is timed"):
        gate.refuse_wrong(actual, results(X, X), gate.Errors(1e-4, 1e-4), torch.float32)


def test_budget_is_twice_the_plain_error() -> None:
    plain = gate.errors_of(results(X * 1.001, X), results(X, X))
    gate.refuse_wrong(results(X * 1.0019, X), results(X, X), plain, torch.float32)
    with pytest.raises(pytest.fail.Exception):
        gate.refuse_wrong(results(X * 1.0021, X), results(X, X), plain, torch.float32)


def test_zeros_never_pass() -> None:
    """However inexact a plain implementation is."""
    with pytest.raises(pytest.fail.Exception, match="wrong gradients"):
        gate.refuse_wrong(results(X, X * 0), results(X, X), gate.Errors(1.0, 1.0), torch.bfloat16)


def test_counts() -> None:
    """The figures of the specification, in its roundings."""
    assert round(counts.fcc(1) / 1e6, 1) == 2.1
    assert round(counts.ccc(1) / 1e6) == 50
    assert round(counts.model(1, inputs=1) / 1e9, 1) == 26.9
    assert round(8 * counts.encoder(1) / 1e9, 1) == 2.8
    assert round(counts.flow_of_pair(1) / 1e9, 1) == 3.3
    assert round(counts.f5c(14) / 1e9, 2) == 0.73
    assert counts.model(1, training=True) == pytest.approx(3 * counts.model(1), rel=0.005)
    assert counts.model(4) == 4 * counts.model(1)
    assert counts.model(1) > counts.model(1, inputs=1)


def test_correlation_counts_the_products_inside() -> None:
    inside = sum(
        0 <= y + dy < 16 and 0 <= x + dx < 16
        for y in range(16)
        for x in range(16)
        for dy in range(-20, 21, 2)
        for dx in range(-20, 21, 2)
    )
    assert counts.correlation(1) == 2 * 256 * inside


def test_exponents() -> None:
    assert scaling.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


def test_peak_memory() -> None:
    """Two tensors of 1 MiB at once, of three."""

    def step() -> None:
        x = torch.zeros(2**18, device=scaling.device())
        del x
        torch.zeros(2**18, device=scaling.device()).add(1)

    assert 2 * 2**20 <= scaling.peak_bytes(step) < 2.1 * 2**20


def timed(backend: str, dtype: str, median: float, rate: float = 2e11) -> dict[str, Any]:
    stats = {"median": median, "iqr": median / 10, "q1": 0.95 * median, "q3": 1.05 * median}
    info = {"backend": backend, "dtype": dtype, "device": "cpu", "threads": 2, "matrix_rate": rate, "matrix_share": 0.5}
    return {"group": "F5C forward (4, 128, 16, 16)", "name": f"{backend} {dtype}", "extra_info": info, "stats": stats}


@pytest.fixture
def result() -> dict[str, Any]:
    loading = {"stats": {"median": 0.5, "iqr": 0.01}, "extra_info": {"clips_per_second": 80.0}}
    return {
        "machine_info": {
            "cpu": {"brand_raw": "A processor"},
            "environment": {"device": "x86_64", "torch": "2.13", "triton": "not installed"},
        },
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": "2030-01-02T03:04:05",
        "benchmarks": [
            timed("reference", "float32", 0.050, 1e11),
            timed("torch", "float32", 0.002, 3e11),
            timed("torch", "bfloat16", 0.004),
            {"group": "data loading", "name": "0 reading processes", **loading},
        ],
    }


def test_table_and_chart(result: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "run.json"
    source.write_text(json.dumps(result))
    table.main([str(source)], tmp_path / "results")
    text = (tmp_path / "results" / "run.md").read_text()
    assert "A processor, 2 threads; matrix product 200 GFLOP/s float32" in text
    assert "2030-01-02, commit 0123456789." in text
    assert (
        "| F5C forward (4, 128, 16, 16) | 50 ms ± 10%, 50% | 2 ms ± 10%, 25.0x, 50% | 4 ms ± 10%, 12.5x, 50% |" in text
    )
    assert "torch bfloat16 takes 2.00 times as long as torch float32." in text
    assert "| data loading | 0 reading processes | 500 ms ± 2% | 80 clips/s |" in text
    assert (tmp_path / "results" / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", ["", "{}", '{"benchmarks": []}'])
def test_what_is_not_a_result_is_named(content: str, tmp_path: Path) -> None:
    source = tmp_path / "run.json"
    source.write_text(content)
    with pytest.raises(SystemExit, match=r"run\.json"):
        table.main([str(source)], tmp_path)


def on_gpu(backend: str, dtype: str, eager: float, kernel: float | None) -> dict[str, Any]:
    benchmark = timed(backend, dtype, eager)
    benchmark["extra_info"] |= {"device": "cuda", "kernel": kernel, "roofline_share": 0.25}
    return benchmark


def test_table_of_a_gpu(result: dict[str, Any], tmp_path: Path) -> None:
    """Both figures in every cell, like compared with like; a chart can be drawn with and without kernel time."""
    result["benchmarks"] = [
        on_gpu("reference", "float32", 0.050, None),
        on_gpu("torch", "float32", 0.002, 0.001),
        on_gpu("triton", "float32", 0.004, 0.0005),
    ]
    result["machine_info"]["environment"]["device"] = "A card"
    source = tmp_path / "card.json"
    source.write_text(json.dumps(result))
    table.main([str(source)], tmp_path)
    text = (tmp_path / "card.md").read_text()
    assert "A card, 2 threads" in text
    assert "Kernel: time of the GPU for a call" in text
    assert "| eager 50 ms ± 10%, 50%, roof 25% |" in text
    assert "| kernel 1 ms, eager 2 ms ± 10%, 25.0x, 50%, roof 25% |" in text
    assert "triton float32, eager, takes 2.00 times as long as torch float32." in text
    assert text.count("times as long") == 1
    assert (tmp_path / "card.png").stat().st_size > 1000


def test_what_was_not_run_is_listed(result: dict[str, Any]) -> None:
    assert "Not run" not in table.markdown(result, "chart.png")
    result["not_run"] = {"a.py::test[1]": "no GPU", "a.py::test[2]": "too dear", "a.py::test[3]": "no GPU"}
    text = table.markdown(result, "chart.png")
    assert "Not run:\n\n- no GPU: test[1], test[3].\n- too dear: test[2].\n" in text


@pytest.fixture
def budget_of_100() -> tuple[budget.Budget, list[float]]:
    """A budget, and the time, which a test sets."""
    now = [1000.0]
    return budget.Budget(100.0, clock=lambda: now[0]), now


def test_the_budget_cuts_what_it_cannot_hold(budget_of_100: tuple[budget.Budget, list[float]]) -> None:
    limit, now = budget_of_100
    assert limit.refusal(100) is None
    assert limit.refusal(101) == "101 s are more than the 100 s that are left of --budget 100"
    now[0] += 70
    assert limit.refusal(30) is None
    assert limit.refusal(31) is not None
    now[0] += 70
    assert limit.refusal(1) == "1 s are more than the 0 s that are left of --budget 100"
    assert limit.refusal(0) is not None


def test_a_slow_machine_cuts_earlier(budget_of_100: tuple[budget.Budget, list[float]]) -> None:
    """And a fast one later, once some cases have shown how fast it is."""
    limit, _ = budget_of_100
    limit.done(20, taken=60)
    assert limit.pace == 2
    assert limit.refusal(51) == "102 s are more than the 100 s that are left of --budget 100"
    limit.done(160, taken=20)
    assert limit.pace == 0.5
    assert limit.refusal(190) is None


def test_no_budget_is_no_limit() -> None:
    assert budget.Budget(0).refusal(1e9) is None
    with pytest.raises(ValueError, match=r"--budget must be seconds, or 0 for no limit, got -1"):
        budget.Budget(-1)


def test_order() -> None:
    """Wanted cases first, then the others, in both the dearest last; the order of equals is kept."""

    class Item:
        def __init__(self, name: str, *mark: Any) -> None:
            self.name, self.mark = name, mark

        def get_closest_marker(self, name: str) -> Any:
            assert name == "cost"
            return SimpleNamespace(args=self.mark) if self.mark else None

    items = [Item("a", 5, False), Item("b", 50, True), Item("c", 5, False), Item("d"), Item("e", 5, True)]
    assert "".join(item.name for item in budget.in_order(items)) == "ebdac"  # type: ignore[arg-type]


def benchmark_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The benchmarks in a process of their own, on a CPU that stands for one without bfloat16 instructions."""
    environment = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "pytest", str(BENCHMARKS), "--benchmark-only", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=600)


def test_a_run(tmp_path: Path) -> None:
    """What the CPU would emulate is skipped, says why, and stands in the JSON, of which there is a table."""
    path = tmp_path / "run.json"
    found = benchmark_run(
        "-k", "FCC-forward-1-torch-", "--budget", "0", "--threads", "1", "--benchmark-json", str(path)
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "s without limit (--budget), 1 cases were not run" in found.stdout
    assert "1 cases: this CPU has no instructions for bfloat16" in found.stdout
    result = json.loads(path.read_text())
    assert [benchmark["name"] for benchmark in result["benchmarks"]] == ["torch float32"]
    assert [name.partition("[")[2] for name in result["not_run"]] == ["FCC-forward-1-torch-bfloat16]"]
    result["machine_info"]["cpu"] = {"brand_raw": "A processor"}
    text = table.markdown(result | {"commit_info": {"id": "0" * 40}}, "chart.png")
    assert "- this CPU has no instructions for bfloat16 and would emulate it: test_operator[FCC-forward-1" in text


def test_a_run_without_time() -> None:
    """Every case is cut, and named."""
    found = benchmark_run("-k", "test_model", "--budget", "1e-3")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "s of 0.001 s (--budget), 40 cases were not run" in found.stdout
    names = [line for line in found.stdout.splitlines() if "s that are left of --budget 0.001" in line]
    assert len(names) == 9
    assert "cases: 32 clips at once are for GPUs" in found.stdout
    assert "test_whole_model.py::test_model[forward-1-torch-float32]: 6 s are more than the 0 s" in found.stdout


def test_a_budget_that_is_none() -> None:
    found = benchmark_run("--budget", "-5")
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--budget must be seconds, or 0 for no limit, got -5" in found.stderr


class Rounds:
    """What `measure.Measure` needs of pytest-benchmark: every call takes half a second."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.given: dict[str, int] = {}
        self.stats: Any = None

    def pedantic(self, function: Callable[[], object], **given: int) -> None:
        function()
        self.given = given
        self.stats = SimpleNamespace(stats=SimpleNamespace(median=0.5))


@pytest.mark.parametrize("waits", [False, True])
def test_both_figures_of_a_gpu(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel time beside eager time, and the shares are of it; of eager time where no graph can be recorded."""
    gpu = FakeGPU()
    gpu.install(monkeypatch)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 4)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))

    def function() -> None:
        gpu.work(0.25)
        if waits:
            torch.cuda.synchronize()

    device, rounds = torch.device("cuda"), Rounds()
    machine = measure.Machine(device, 2, lambda dtype: 1000.0, 10.0)
    labels = measure.Labels("F5C", "forward", "(4, 128, 16, 16)", "triton", "bfloat16")
    measure.Measure(rounds, machine)(function, labels, 100, 2, error=0.125)  # type: ignore[arg-type]
    info, seconds = rounds.extra_info, 0.5 if waits else 0.25
    assert rounds.given["iterations"] > 1
    assert info["kernel"] == (None if waits else 0.25)
    assert ("must not wait" in (info["kernel_problem"] or "")) == waits
    assert (info["matrix_share"], info["roofline_share"]) == (100 / seconds / 1000, 0.2 / seconds)
    assert (info["error"], info["device"], info["backend"]) == (0.125, "cuda", "triton")


def test_one_figure_of_a_cpu() -> None:
    rounds = Rounds()
    machine = measure.Machine(torch.device("cpu"), 2, lambda dtype: 1000.0, None)
    labels = measure.Labels("F5C", "forward", "(4, 128, 16, 16)", "torch", "float32")
    measure.Measure(rounds, machine)(lambda: None, labels, 100, 2)  # type: ignore[arg-type]
    assert rounds.extra_info["matrix_share"] == 0.2
    assert not {"kernel", "roofline_share"} & rounds.extra_info.keys()
