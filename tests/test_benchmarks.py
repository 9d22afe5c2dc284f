"""The benchmarks keep what they promise: no time for a wrong result, arithmetic by the book, tables of what was run."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import seeded
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import counts
import gate
import scaling
import table

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


def timing(backend: str, dtype: str, median: float, rate: float = 2e11) -> dict[str, Any]:
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
            timing("reference", "float32", 0.050, 1e11),
            timing("torch", "float32", 0.002, 3e11),
            timing("torch", "bfloat16", 0.004),
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
