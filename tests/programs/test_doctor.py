"""The doctor: that it finds what is wrong, says so by name and exit code, and finds nothing where all is well."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.fake_gpu import FakeGPU
from rich.console import Console
from torch import Tensor

from mol_fast import doctor, functional
from mol_fast.checks import ahead, timing
from mol_fast.checks.accuracy import DTYPES, accuracy
from mol_fast.checks.operators import CCC, Correlation, FCCEvaluation, FCCTraining, Operator, operators
from mol_fast.ops import correlation as batched_correlation
from mol_fast.ops import fcc as batched_fcc

CPU = torch.device("cpu")
OPERATORS = {operator.name: operator for operator in operators(quick=True)}


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=600)


def check_json(found: dict[str, Any]) -> None:
    """Every section, and every operator in every dtype."""
    assert found.keys() == {"ok", "wrong", "environment", "backend", "operators", "compiled", "network"}
    assert found["environment"]["torch"] == torch.__version__
    assert found["environment"]["threads"] >= 1
    rows = {(row["operator"], row["dtype"], row["backend"]) for row in found["operators"]}
    names = ("float64", "float32", "float16", "bfloat16")
    assert rows == {(operator, dtype, "torch") for operator in OPERATORS for dtype in names}
    for row in found["operators"]:
        for phase in ("forward", "backward"):
            assert 0 < row[phase]["error"] <= row[phase]["budget"]
    assert [row["check"] for row in found["network"]] == ["F5C weights", "MOL small"]


def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    from mol_fast.kernels import resources

    path = tmp_path / "found.json"
    assert doctor.main(["--quick", "--device", "cpu", "--json", str(path)]) == 0
    shown = capsys.readouterr()
    found = json.loads(path.read_text())
    check_json(found)
    assert (found["ok"], found["wrong"], shown.err) == (True, [], "")
    kernels = found["compiled"]["kernels"]
    assert {row["operator"] for row in kernels} == set(resources.OPERATORS)
    assert all(row["registers"] > 0 and row["spills"] == 0 and row["problem"] is None for row in kernels)
    for expected in ("fcc training", "fcc evaluation", "ccc", "correlation", "bfloat16", 'backend "auto"', "sm_90"):
        assert expected in shown.out
    assert shown.out.strip().endswith("all is well")


def test_without_triton() -> None:
    """Nothing is wrong on a CPU, and says why; `--json` alone leaves standard output to the JSON."""
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from mol_fast.doctor import main\n"
        "sys.exit(main(['--quick', '--device', 'cpu', '--json']))"
    )
    done = child("-c", code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    check_json(found)
    assert found["environment"]["triton"] == "not installed"
    assert found["compiled"] == {"problem": None, "skipped": "triton is not installed", "kernels": []}
    assert "triton is not installed" in done.stderr


def test_a_broken_operator_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        y, *statistics = original(x, *arguments)
        return y + 1e-2, *statistics

    original = batched_fcc.fcc
    monkeypatch.setattr(batched_fcc, "fcc", broken)
    monkeypatch.setattr(functional, "HAS_TRITON", False)
    assert doctor.main(["--quick", "--device", "cpu"]) == 1
    shown = capsys.readouterr()
    assert "fcc training 6x6x5x12 float32 torch: the error of the forward is over its budget" in shown.err
    assert "fcc evaluation 6x6x5x12 float64 torch" in shown.err
    assert "ccc" not in shown.err
    assert "correlation" not in shown.err
    assert "wrong" in shown.out


def steeper(y: Tensor) -> Tensor:
    """The same values, gradients too large by a thousandth."""
    return y + 1e-3 * (y - y.detach())


def unable(y: Tensor) -> Tensor:
    raise RuntimeError("out of order\nsecond line")


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "too large": (lambda y: y * (1 + 1e-4), "the error of the forward and the backward is over its budget"),
    "steeper": (steeper, "the error of the backward is over its budget"),
    "not a number": (lambda y: y * float("nan"), "the error of the forward and the backward is over its budget"),
    "one row": (lambda y: y[:-1], "RuntimeError: "),
    "unable": (unable, "RuntimeError: out of order"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_watched(name: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, problem = CHANGES[change]
    kind = type(OPERATORS[name])
    original = kind.fast
    monkeypatch.setattr(kind, "fast", lambda *a: (found := original(*a)) | {"y": function(found["y"])})
    (found,) = accuracy(OPERATORS[name], (torch.float32,), CPU, False)
    assert found.problem is not None
    assert found.problem.startswith(problem)
    if change != "unable":
        return
    assert "second line" not in found.problem


@pytest.mark.parametrize("name", OPERATORS)
def test_triton_has_twice_the_error_of_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called on PyTorch in place of Triton: within its budget as it is, over it with an error of three roundings."""
    monkeypatch.setattr(functional, "use_triton", lambda backend, x: False)
    found = accuracy(OPERATORS[name], DTYPES, CPU, True)
    assert [(item.backend, item.problem) for item in found if item.backend == "triton"] == [("triton", None)] * 3
    assert len(found) == 7
    kind = type(OPERATORS[name])
    original = kind.fast

    def rougher(operator: Operator, inputs: dict[str, Tensor], backend: str) -> dict[str, Tensor]:
        found = original(operator, inputs, backend)
        return found if backend == "torch" else found | {"y": found["y"] * (1 + 3 * 2**-23 + 1e-6)}

    monkeypatch.setattr(kind, "fast", rougher)
    plain, fused = accuracy(OPERATORS[name], (torch.float32,), CPU, True)
    assert (plain.problem, fused.backend) == (None, "triton")
    assert "forward" in (fused.problem or "")


def test_not_a_number_is_valid_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = batched_correlation.correlation
    monkeypatch.setattr(batched_correlation, "correlation", lambda *arguments: original(*arguments) * torch.nan)
    monkeypatch.setattr(functional, "HAS_TRITON", False)
    path = tmp_path / "found.json"
    assert doctor.main(["--quick", "--device", "cpu", "--json", str(path)]) == 1
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert not found["ok"]
    assert "MOL small: flow of a random clip are not finite" in found["wrong"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (RuntimeError("no compiler"), "Triton kernels: no compiler"),
        (
            [{"operator": "fcc", "kernel": "fcc_kernel", "shape": "1x2", "dtype": "float32", "target": "sm_90"}
             | {"registers": 255, "spills": 8, "shared": 16, "matrix": [], "problem": "spills 8 bytes"}],
            "fcc_kernel 1x2 float32: spills 8 bytes",
        ),
    ],
)  # fmt: skip
def test_a_kernel_that_is_wrong_is_named(
    rows: Any, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compile_all(quick: bool) -> Any:
        if isinstance(rows, RuntimeError):
            raise rows
        return rows

    monkeypatch.setattr(ahead, "compile_all", compile_all)
    monkeypatch.setattr(functional, "HAS_TRITON", True)
    monkeypatch.setattr("mol_fast.checks.operators.operators", lambda quick: [])
    assert doctor.main(["--quick", "--device", "cpu"]) == 1
    assert capsys.readouterr().err.strip() == f"error: not all is well: {message}"


def test_a_triton_that_does_not_import_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "triton.py").write_text("raise ImportError('a library is missing')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="a library is missing"):
        ahead.compile_all(quick=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "a.json", "b.json"], "--json takes one file, got 2"),
        (["--json", "missing/a.json"], "the folder of missing/a.json does not exist"),
        (["--json", "."], "is a folder"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--device", "meta"], "device 'meta' is not available"),
        (["--device", "nonsense"], "device 'nonsense' is not available"),
    ],
)
def test_user_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_bad_option() -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--nonsense"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "operator",
    [FCCTraining((14, 8, 6, 4), groups=7), FCCEvaluation((14, 8, 6, 4)), CCC((2, 8, 4, 4)), Correlation((2, 8, 4, 4))],
)
def test_the_floor_has_both_passes(operator: Operator) -> None:
    pytest.importorskip("triton")
    from mol_fast.checks.speed import launches

    found = launches(operator, torch.bfloat16)
    assert {launch.phase for launch in found} == {"forward", "backward"}
    assert all(launch.bytes > 0 for launch in found)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGPU:
    """A stand-in on which a forward of an operator takes 2 ms, a backward 3 ms, and the ceilings are round."""
    gpu = FakeGPU()
    gpu.install(monkeypatch)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 4)
    limits = timing.Ceilings(2e12, dict.fromkeys(DTYPES, 1e15))
    monkeypatch.setattr(timing, "ceilings", lambda device: limits)
    monkeypatch.setattr("mol_fast.checks.speed.timed_operators", lambda: [CCC((2, 8, 4, 4)), Correlation((2, 8, 4, 4))])
    backward = torch.autograd.grad

    def grad(*arguments: Any, **options: Any) -> tuple[Tensor, ...]:
        gpu.work(0.003)
        return backward(*arguments, **options)

    for kind in (CCC, Correlation):

        def forward(operator: Operator, inputs: Any, backend: str, fast: Any = kind.fast) -> dict[str, Tensor]:
            gpu.work(0.002)
            return fast(operator, inputs, "torch")

        monkeypatch.setattr(kind, "fast", forward)
    monkeypatch.setattr(torch.autograd, "grad", grad)
    return gpu


def speed_found(triton: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """Findings and the text of the doctor's report of times."""
    monkeypatch.setattr("mol_fast.checks.machine.uses_triton", lambda device: triton)
    findings = doctor.Findings()
    doctor.report_speed(findings, Console(width=200), CPU, quick=True)
    return json.loads(findings.to_json()), capsys.readouterr().out


def test_both_times_are_reported(
    gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    found, shown = speed_found(True, monkeypatch, capsys)
    assert (found["ok"], found["ceilings"]["copy"], found["ceilings"]["product"]["bfloat16"]) == (True, 2e12, 1e15)
    assert [(row["operator"], row["pass"]) for row in found["speed"]] == [
        (name, phase) for name in ("ccc", "correlation") for phase in ("forward", "backward")
    ]
    for row in found["speed"]:
        expected = 2000 if row["pass"] == "forward" else 3000
        assert row["torch_kernel_us"] == pytest.approx(expected) == row["triton_kernel_us"]
        assert min(row["torch_eager_us"], row["triton_eager_us"]) > 0
        assert row["floor_us"] >= 0.999e6 * row["bytes"] / 2e12 > 0
        assert row["l2_bytes"] >= row["bytes"]
        assert row["share_of_floor"] == pytest.approx(row["floor_us"] / expected)
    for expected in ("2.00 TB/s copied", "1000.0 TFLOP/s bfloat16", "Triton kernel", "eager", "2000", "3000", "floor"):
        assert expected in shown


def test_times_without_triton(
    gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = speed_found(False, monkeypatch, capsys)
    for row in found["speed"]:
        assert row["torch_kernel_us"] > 0
        missing = ("triton_kernel_us", "triton_eager_us", "bytes", "l2_bytes", "flops", "floor_us")
        assert {row[name] for name in missing} == {None}


def test_an_operator_that_waits_for_the_gpu_is_named(
    gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = CCC.fast

    def waiting(*arguments: Any) -> dict[str, Tensor]:
        torch.cuda.synchronize()
        return fast(*arguments)

    monkeypatch.setattr(CCC, "fast", waiting)
    found, _ = speed_found(False, monkeypatch, capsys)
    assert [row["torch_kernel_us"] is None for row in found["speed"]] == [True, False, False, False]
    (wrong,) = found["wrong"]
    assert wrong.startswith("timing of ccc bfloat16 forward: torch: no CUDA graph can hold this function")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    doctor.run(doctor.Options(json=(path,), quick=True))  # which needs no package that reads options
    found = json.loads(path.read_text())
    assert {row["backend"] for row in found["operators"]} == {"torch", "triton"}
    assert len(found["speed"]) == 8
    figures = [f"{backend}_{figure}_us" for backend in ("torch", "triton") for figure in ("kernel", "eager")]
    assert all(row[figure] > 0 for row in found["speed"] for figure in (*figures, "floor_us"))
    assert found["ceilings"]["copy"] > 0
