"""The program that checks this installation in about a minute: `python -m mol_fast.doctor`.

It compares every operator, forward and backward, with the paper's equations in float64, within error budgets derived in
`mol_fast.checks.accuracy`. On a GPU it also measures times; on a CPU it compiles the Triton kernels ahead of time.
"""

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mol_fast import functional
from mol_fast.cli import run_program
from mol_fast.utils.device import choose_device
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.terminal import make_console

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.text import Text

    from mol_fast.checks.accuracy import Accuracy, Measure

Rows = list[dict[str, Any]]


class SomethingWrong(UserError):
    """A check failed."""

    exit_code = 1


@dataclass(frozen=True)
class Options:
    """Options of the program.

    Attributes:
        json: Write everything as JSON to this file. Without a file: JSON to standard output, tables to standard error.
        quick: Check only small maps, and compile or time fewer kernels.
        device: Device to check: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
    """

    json: tuple[Path, ...] | None = None
    quick: bool = False
    device: str = "auto"


@dataclass
class Findings:
    """Findings as plain values, and messages of failed checks."""

    sections: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"ok": not self.wrong, "wrong": self.wrong, **self.sections}, indent=1, allow_nan=False)


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code: 0, 1 (a check failed), 2 (user error)."""
    return run_program(run, argv, "doctor", "train")


def run(checks: Options) -> None:
    """Check versions, device, every operator against the reference, and the whole model.

    Raises:
        UserError: an option cannot be used.
        SomethingWrong: a check failed.
    """
    from mol_fast.checks.machine import uses_triton

    check_target(checks.json)
    device = choose_device(checks.device)
    piped = checks.json == ()
    console = make_console(stderr=piped, width=None if (sys.stderr if piped else sys.stdout).isatty() else 120)
    findings = Findings()
    with ThreadPoolExecutor(1) as pool:
        compiled = None if uses_triton(device) or not functional.HAS_TRITON else compile_in(pool, checks.quick)
        report_machine(findings, console, device)
        report_operators(findings, console, device, checks.quick)
        if device.type == "cuda":
            report_speed(findings, console, device, checks.quick)
        else:
            report_compiled(findings, console, compiled)
        report_network(findings, console, device)
    if piped:
        print(findings.to_json())
    elif checks.json:
        write_atomic(checks.json[0], findings.to_json() + "\n")
    if findings.wrong:
        raise SomethingWrong(f"not all is well: {'; '.join(findings.wrong)}")
    console.print("all is well")


def check_target(target: tuple[Path, ...] | None) -> None:
    """Raise UserError early if the JSON cannot be written to `target`."""
    if not target:
        return
    if len(target) > 1:
        raise UserError(f"--json takes one file, got {len(target)}")
    if not target[0].parent.is_dir():
        raise UserError(f"the folder of {target[0]} does not exist, create it first")
    if target[0].is_dir():
        raise UserError(f"{target[0]} is a folder, give --json a file")


def compile_in(pool: ThreadPoolExecutor, quick: bool) -> "Future[Rows]":
    from mol_fast.checks.ahead import compile_all

    return pool.submit(compile_all, quick)


def report_machine(findings: Findings, console: "Console", device: "torch.device") -> None:
    from rich.table import Table

    from mol_fast.checks.machine import auto_backend, machine

    found, backend = machine(device), auto_backend(device)
    findings.sections |= {"environment": found, "backend": backend}
    table = Table(show_header=False)
    for name, value in {**found, 'backend "auto"': f"{backend['auto']}: {backend['reason']}"}.items():
        table.add_row(name, str(value))
    console.print(table)


def report_operators(findings: Findings, console: "Console", device: "torch.device", quick: bool) -> None:
    from rich.table import Table

    from mol_fast.checks.accuracy import DTYPES, accuracy, dtype_name
    from mol_fast.checks.machine import uses_triton
    from mol_fast.checks.operators import operators

    title = "Operators against the reference in float64: relative error, and the most that rounding explains"
    table = Table("operator", "maps", "dtype", "backend", "forward", "budget", "backward", "budget", "", title=title)
    rows: Rows = []
    with console.status("operators"):
        for operator in operators(quick):
            for item in accuracy(operator, DTYPES, device, uses_triton(device)):
                name, maps = operator.name, "x".join(map(str, operator.shape))
                cells = [*cells_of(item.forward), *cells_of(item.backward)]
                table.add_row(name, maps, dtype_name(item.dtype), item.backend, *cells, mark(item.problem))
                rows.append(plain(item))
                note(findings, str(item), item.problem)
    findings.sections["operators"] = rows
    console.print(table)


def plain(item: "Accuracy") -> dict[str, Any]:
    from mol_fast.checks.accuracy import dtype_name

    return {
        "operator": item.operator.name,
        "shape": list(item.operator.shape),
        "dtype": dtype_name(item.dtype),
        "backend": item.backend,
        "forward": plain_measure(item.forward),
        "backward": plain_measure(item.backward),
        "problem": item.problem,
    }


def plain_measure(measure: "Measure | None") -> dict[str, float | None] | None:
    """Return plain values. A non-finite error becomes None, because JSON has no NaN."""
    if measure is None:
        return None
    return {"error": measure.error if isfinite(measure.error) else None, "budget": measure.budget}


def cells_of(measure: "Measure | None") -> tuple[str, str]:
    return ("", "") if measure is None else (f"{measure.error:.1e}", f"{measure.budget:.1e}")


def mark(problem: str | None) -> "Text":
    from rich.text import Text

    return Text("ok", style="green") if problem is None else Text("wrong", style="red")


def note(findings: Findings, name: str, problem: str | None) -> None:
    if problem is not None:
        findings.wrong.append(f"{name}: {problem}")


def report_compiled(findings: Findings, console: "Console", compiled: "Future[Rows] | None") -> None:
    from rich.table import Table

    if compiled is None:
        findings.sections["compiled"] = {"problem": None, "skipped": "triton is not installed", "kernels": []}
        console.print("Triton kernels: not compiled, triton is not installed (on a CPU nothing needs it)")
        return
    try:
        with console.status("compiling the Triton kernels"):
            rows = compiled.result()
    except RuntimeError as error:
        findings.sections["compiled"] = {"problem": str(error), "skipped": None, "kernels": []}
        note(findings, "Triton kernels", str(error))
        console.print(f"Triton kernels: {error}")
        return
    findings.sections["compiled"] = {"problem": None, "skipped": None, "kernels": rows}
    for row in rows:
        note(findings, f"{row['kernel']} {row['shape']} {row['dtype']}", row["problem"])
    title = f"Triton kernels compiled for {rows[0]['target']}: the most that one of them takes"
    table = Table("operator", "dtype", "kernels", "registers", "spilled bytes", "shared KiB", "", title=title)
    for operator, dtype in dict.fromkeys((row["operator"], row["dtype"]) for row in rows):
        part = [row for row in rows if (row["operator"], row["dtype"]) == (operator, dtype)]
        most = [max(row.get(name, 0) for row in part) for name in ("registers", "spills", "shared")]
        problem = next((row["problem"] for row in part if row["problem"] is not None), None)
        sizes = (str(most[0]), str(most[1]), f"{most[2] / 1024:.0f}")
        table.add_row(operator, dtype, str(len(part)), *sizes, mark(problem))
    console.print(table)


def report_speed(findings: Findings, console: "Console", device: "torch.device", quick: bool) -> None:
    from rich.table import Table

    from mol_fast.checks.accuracy import dtype_name, in_a_line
    from mol_fast.checks.machine import uses_triton
    from mol_fast.checks.speed import speed
    from mol_fast.checks.timing import ceilings

    table = Table(*SPEED_COLUMNS, title="Time in microseconds: kernel (replay of a CUDA graph) and eager (from Python)")
    rows: Rows = []
    findings.sections |= {"ceilings": None, "speed": rows}
    try:
        with console.status("timing"):
            limits = ceilings(device)
            products = {dtype_name(dtype): rate for dtype, rate in limits.product.items()}
            findings.sections["ceilings"] = {"copy": limits.copy, "product": products}
            rates = ", ".join(f"{rate / 1e12:.1f} TFLOP/s {dtype}" for dtype, rate in products.items())
            console.print(f"measured here: {limits.copy / 1e12:.2f} TB/s copied; products of {rates}")
            for row in speed(device, uses_triton(device), quick, limits):
                rows.append(row)
                table.add_row(*speed_cells(row))
                note(findings, f"timing of {row['operator']} {row['dtype']} {row['pass']}", row["problem"])
    except Exception as raised:  # the doctor reports whatever an operator raises
        note(findings, "timing", in_a_line(raised))
    console.print(table)


SPEED_COLUMNS = (
    *("operator", "maps", "dtype", "pass", "PyTorch kernel", "eager", "Triton kernel", "eager"),
    *("floor", "share", "MB memory", "MB L2"),
)


def speed_cells(row: dict[str, Any]) -> list[str]:
    """Format a row of `mol_fast.checks.speed` for the table. Missing values become empty cells."""
    names = [f"{backend}_{figure}_us" for backend in ("torch", "triton") for figure in ("kernel", "eager")]
    times = ["" if row[name] is None else f"{row[name]:.0f}" for name in (*names, "floor_us")]
    share = "" if row["share_of_floor"] is None else f"{row['share_of_floor']:.0%}"
    traffic = ["" if row[name] is None else f"{row[name] / 1e6:.0f}" for name in ("bytes", "l2_bytes")]
    return [row["operator"], "x".join(map(str, row["shape"])), row["dtype"], row["pass"], *times, share, *traffic]


def report_network(findings: Findings, console: "Console", device: "torch.device") -> None:
    from rich.table import Table

    from mol_fast.checks.network import network

    table = Table("model", "", "")
    rows: Rows = []
    for row in network(device):
        rows.append(row)
        note(findings, row["check"], row["problem"])
        table.add_row(row["check"], row["problem"] or "", mark(row["problem"]))
    findings.sections["network"] = rows
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
