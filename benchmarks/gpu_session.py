"""Check, tune, time and profile everything on a GPU in minutes: python benchmarks/gpu_session.py --out FOLDER

Runs from a checkout, without network or installation, and ends by itself. `python benchmarks/gpu_session.py --dry-run`
prints the plan; `benchmarks/gpu_results.py` makes tables from the results.
"""

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gpu_stages import checkout, plan, processes, records
from gpu_stages.context import REHEARSAL, Context, Sizes

ROOT = Path(__file__).resolve().parents[1]
LOG = "log.txt"
MOST_LOG = 256 * 2**10
"""Bytes kept of a stage's output: half from the beginning, half from the end."""
VERSION = 1
"""Version of the records."""


class Stopped(Exception):
    """A signal stopped the run."""


class Session:
    """A run: its stages in sequence, each in its own process, with one clock."""

    def __init__(self, out: Path, scratch: Path, rehearsal: bool) -> None:
        self.start = time.monotonic()
        self.out, self.scratch = out, scratch
        sizes = REHEARSAL if rehearsal else Sizes()
        self.context = Context(ROOT, out, scratch, self.start, rehearsal=rehearsal, sizes=sizes)
        self.wrong: list[str] = []
        self.beside: subprocess.Popen[bytes] | None = None

    def record(self, kind: str, **values: Any) -> None:
        records.append(self.out / records.FILE, {"kind": kind, **values})

    def run(self, chosen: list[plan.Planned]) -> None:
        beside = plan.begins_beside(item.stage.name for item in chosen)
        until = next((item.end for item in chosen if item.stage.name == plan.BESIDE_UNTIL), 0.0)
        try:
            for stage, end in chosen:
                if stage.name == "smoke" and beside:
                    self.beside = self.launch(plan.BESIDE, self.start + until)
                self.one(stage.name, self.start + end)
                if stage.name == plan.BESIDE_UNTIL:
                    self.end_beside()
        finally:
            self.end_beside()

    def one(self, name: str, deadline: float) -> None:
        """Run a stage until its end or its deadline, and record the outcome."""
        began, spent = time.monotonic(), cpu_seconds()
        self.record("stage", stage=name, state="started", seconds=deadline - began)
        self.context = replace(self.context, failed=self.failed())
        process = self.launch(name, deadline)
        try:
            code = processes.finish(process, deadline).code
        finally:
            self.keep_log(name)
        state = "killed" if code is None else "failed" if code else "done"
        seconds = time.monotonic() - began
        self.record("stage", stage=name, state=state, code=code, seconds=seconds, cpu_s=cpu_seconds() - spent)
        print(f"{time.monotonic() - self.start:6.0f} s  {name:<9} {state} after {seconds:.0f} s", flush=True)
        if state != "done":
            self.wrong.append(f"{name} was killed at its deadline" if code is None else f"{name} failed")

    def launch(self, name: str, deadline: float) -> "subprocess.Popen[bytes]":
        context = replace(self.context, stage=name, deadline=deadline)
        command = [sys.executable, "-m", "gpu_stages.stage", name]
        with (self.scratch / f"{name}.txt").open("wb") as log:
            return processes.start(command, context.environment(), log, self.scratch)

    def failed(self) -> tuple[str, ...]:
        """Return the operators and dtypes that failed in smoke, except errors slightly over budget."""
        rows = records.of_kind(records.read(self.out / records.FILE), "smoke")
        marked = [row for row in rows if row["ok"] is False and row.get("gross", True)]
        return tuple(sorted({f"{row['operator']}:{row['dtype']}" for row in marked}))

    def end_beside(self) -> None:
        if self.beside is not None:
            process, self.beside = self.beside, None
            processes.kill(process)
            self.keep_log(plan.BESIDE)

    def keep_log(self, name: str) -> None:
        """Append the output of a stage to the log; omit the middle of long output."""
        data = (self.scratch / f"{name}.txt").read_bytes()
        if len(data) > MOST_LOG:
            left = f"\n... {len(data) - MOST_LOG} bytes are omitted ...\n".encode()
            data = data[: MOST_LOG // 2] + left + data[-MOST_LOG // 2 :]
        with (self.out / LOG).open("ab") as log:
            log.write(f"===== {name}\n".encode() + data + b"\n")


def cpu_seconds() -> float:
    """Return the CPU seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commit() -> str:
    """Return the commit of the checkout, with "+" if files differ; "unknown" without git."""
    try:
        found, changes = (
            subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True)
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip() + ("+" if changes.stdout.strip() else "")


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the results, new or empty")
    parser.add_argument("--seconds", type=float, default=plan.SECONDS, help="most seconds of the whole run")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="run only these stages")
    parser.add_argument("--skip", nargs="+", metavar="STAGE", help="skip these stages")
    parser.add_argument("--commit", help="commit of the checkout, if git cannot tell")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and exit")
    parser.add_argument("--rehearse", action="store_true", help="run everything on a CPU, at tiny sizes")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run, and return the exit code: 0, 1 if a stage failed or was killed, 2 if nothing could run."""
    options = arguments(argv)
    try:
        chosen = plan.planned(options.seconds, options.only, options.skip)
        if options.dry_run:
            print(plan.table(chosen, options.seconds))
            return 0
        if options.out is None:
            raise ValueError("--out is missing, name a folder for the results")
        out = options.out.resolve()
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} holds something already, name a new folder with --out")
        out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"gpu_session: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="mol-fast-", ignore_cleanup_errors=True) as folder:
        session = Session(out, Path(folder), options.rehearse)
        session.record(
            "run", version=VERSION, started=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=options.commit or commit(), seconds=options.seconds, rehearsal=options.rehearse,
            stages=[item.stage.name for item in chosen], python=sys.version.split()[0],
        )  # fmt: skip
        checkout.link(ROOT, Path(folder, "import"))
        state = "done"
        try:
            session.run(chosen)
        except Stopped:
            state = "stopped"
            session.wrong.append("a signal stopped the run")
        session.record("end", state=state, seconds=time.monotonic() - session.start, wrong=session.wrong)
    print("\n".join(session.wrong) or "everything ran")
    print(f"results are in {out}")
    return 1 if session.wrong else 0


def stop(number: int, frame: object) -> None:
    raise Stopped(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
