"""Make the tables and the chart of a run: python benchmarks/table.py RESULT.json

Writes RESULT.md and RESULT.png into benchmarks/results/, from the file of `pytest benchmarks --benchmark-json`.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from chart import draw

from mol_fast.utils.files import write_atomic

RESULTS = Path(__file__).parent / "results"
BACKENDS = ("reference", "torch", "torch.compile", "triton")
DTYPES = ("float32", "bfloat16")
KINDS = (
    "Kernel: time of the GPU for a call (replay of a CUDA graph, inputs in memory); shares refer to it.",
    "Eager: time of a call from Python, which the host may limit.",
)

Benchmark = dict[str, Any]
Rows = dict[str, dict[tuple[str, str], Benchmark]]


def rows_of(benchmarks: Iterable[Benchmark]) -> Rows:
    """Sort benchmarks of operators and model by group, then by (backend, dtype)."""
    rows: Rows = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        if "backend" in info:
            rows.setdefault(benchmark["group"], {})[info["backend"], info["dtype"]] = benchmark
    return rows


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def spread(benchmark: Benchmark) -> float:
    """Return the interquartile range, relative to the median."""
    return benchmark["stats"]["iqr"] / benchmark["stats"]["median"]


def figures(benchmark: Benchmark) -> dict[str, float]:
    """Return seconds by name: "kernel" (if known) and "eager" on a GPU, "time" on a CPU."""
    median, info = benchmark["stats"]["median"], benchmark["extra_info"]
    if info["device"] == "cpu":
        return {"time": median}
    kernel = info["kernel"]
    return {"eager": median} if kernel is None else {"kernel": kernel, "eager": median}


def conditions(result: dict[str, Any]) -> str:
    """Return the conditions of the run in one line: machine, rates, versions, date, commit."""
    machine, commit = result["machine_info"], result["commit_info"]
    environment = machine["environment"]
    name = environment["device"]
    first = next(b["extra_info"] for b in result["benchmarks"] if "backend" in b["extra_info"])
    if first["device"] == "cpu":
        name = machine.get("cpu", {}).get("brand_raw", name)
    rates: dict[str, list[float]] = {}
    for row in rows_of(result["benchmarks"]).values():
        for (_, dtype), benchmark in row.items():
            rates.setdefault(dtype, []).append(benchmark["extra_info"]["matrix_rate"])
    limits = ", ".join(f"{median(rates[dtype]) / 1e9:.0f} GFLOP/s {dtype}" for dtype in DTYPES if dtype in rates)
    state = " with changes" if commit.get("dirty") else ""
    return (
        f"{name}, {first['threads']} threads; matrix product {limits}; torch {environment['torch']}, "
        f"triton {environment['triton']}; {result['datetime'][:10]}, commit {commit['id'][:10]}{state}"
    )


def cell(benchmark: Benchmark, reference: Benchmark | None) -> str:
    info, found = benchmark["extra_info"], figures(benchmark)
    others = {} if reference is None or reference is benchmark else figures(reference)
    parts = []
    for name, seconds in found.items():
        label = "" if name == "time" else f"{name} "
        around = "" if name == "kernel" else f" ± {spread(benchmark):.0%}"
        parts.append(f"{label}{duration(seconds)}{around}")
        if name in others:
            parts.append(f"{others[name] / seconds:.1f}x")
    parts.append(f"{info['matrix_share']:.0%}")
    if "roofline_share" in info:
        parts.append(f"roof {info['roofline_share']:.0%}")
    return ", ".join(parts)


def losses(rows: Rows) -> list[str]:
    """List where a backend is slower than batched PyTorch, or bfloat16 slower than float32, by the same figure."""
    lines = []
    for group, row in rows.items():
        for (backend, dtype), benchmark in row.items():
            for rival in {("torch", dtype), (backend, "float32")} - {(backend, dtype)}:
                if rival not in row or backend == "reference" or rival[0] == "reference":
                    continue
                theirs = figures(row[rival])
                for name, seconds in figures(benchmark).items():
                    if name in theirs and seconds > 1.05 * theirs[name]:
                        ours = f"{backend} {dtype}" + ("" if name == "time" else f", {name},")
                        ratio = seconds / theirs[name]
                        lines.append(f"- {group}: {ours} takes {ratio:.2f} times as long as {' '.join(rival)}.")
    return sorted(lines)


def left_out(result: dict[str, Any]) -> list[str]:
    """List cases that were not run, by reason; empty if all ran or the file does not say."""
    names: dict[str, list[str]] = {}
    for name, reason in result.get("not_run", {}).items():
        names.setdefault(reason, []).append(name.partition("::")[2])
    lines = [f"- {reason}: {', '.join(cases)}." for reason, cases in names.items()]
    return ["", "Not run:", "", *lines] if lines else []


def markdown(result: dict[str, Any], chart: str) -> str:
    """Return the tables, with conditions and losses."""
    rows = rows_of(result["benchmarks"])
    columns = [key for key in ((b, d) for b in BACKENDS for d in DTYPES) if any(key in row for row in rows.values())]
    lines = [
        conditions(result) + ".",
        "",
        "Median ± interquartile range, speed-up over the reference in float32, share of the matrix rate.",
        *(KINDS if any("kernel" in b["extra_info"] for b in result["benchmarks"]) else ()),
        "",
        "| | " + " | ".join(f"{backend} {dtype}" for backend, dtype in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for group, row in rows.items():
        reference = row.get(("reference", "float32"))
        cells = [cell(row[key], reference) if key in row else "" for key in columns]
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    others = [benchmark for benchmark in result["benchmarks"] if "backend" not in benchmark["extra_info"]]
    if others:
        lines += ["", "| | | median | |", "|---|---|---|---|"]
    for benchmark in others:
        rate = benchmark["extra_info"].get("clips_per_second")
        note = "" if rate is None else f"{rate:.0f} clips/s"
        time = f"{duration(benchmark['stats']['median'])} ± {spread(benchmark):.0%}"
        lines.append(f"| {benchmark['group']} | {benchmark['name']} | {time} | {note} |")
    slower = losses(rows)
    lines += ["", "Slower, by more than 5 %:", "", *(slower or ["- nothing."]), *left_out(result)]
    lines += ["", f"![Times by backend]({chart})", ""]
    return "\n".join(lines)


def main(arguments: list[str], results: Path = RESULTS) -> None:
    if len(arguments) != 1:
        sys.exit("usage: python benchmarks/table.py RESULT.json")
    source = Path(arguments[0])
    try:
        result = json.loads(source.read_text())
        rows = rows_of(result["benchmarks"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{source} is not a result of pytest-benchmark ({error}); make one with --benchmark-json.")
    if not rows:
        sys.exit(f"{source} has no benchmark of an operator or the model; run pytest benchmarks --benchmark-only.")
    results.mkdir(exist_ok=True)
    chart = results / f"{source.stem}.png"
    draw(rows, conditions(result), chart)
    write_atomic(chart.with_suffix(".md"), markdown(result, chart.name))
    print(f"Wrote {chart.with_suffix('.md')} and {chart}.")


if __name__ == "__main__":
    main(sys.argv[1:])
