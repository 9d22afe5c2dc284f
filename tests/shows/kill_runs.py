"""Kill trainings at random moments, go on with the same command, and compare with one that was never interrupted.

    python tests/shows/kill_runs.py --runs 20

Runs take turns: SIGKILL and SIGTERM, to one process and to the whole group, with 0 and 2 processes that read clips,
with one fold, with folds of two subjects, and with two ranks that split every batch. Losses, scores, predictions,
scorings, configurations of folds and weights must then be the same, byte for byte. It prints what was killed when, and
exits with 1 on any difference. The tests do not collect this program: it takes minutes.
"""

import argparse
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mol_fast.data import generate_embedded

TABLES = ("metrics.csv", "scores.json", "predictions.csv", "folds.csv", "megc2019.csv", "windows.csv")
TENSORS = ("weights.safetensors", "samples.safetensors")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
MODES = {"one fold": (), "folds of two subjects": ("--folds", "s01", "s02"), "two ranks": ("--parallel", "batch")}
"""Kinds of trainings, and their options."""


@dataclass(frozen=True)
class Case:
    """How a training is started and killed."""

    mode: str
    signal: signal.Signals
    group: bool
    workers: int

    def __str__(self) -> str:
        receiver = "the group" if self.group else "a process"
        return f"{self.mode}, {self.workers} workers, {self.signal.name} to {receiver}"


def cases() -> Iterator[Case]:
    """Give all combinations again and again, every kind of training as often as the others."""
    kinds = itertools.product((signal.SIGKILL, signal.SIGTERM), (False, True), (0, 2))
    for (number, group, workers), mode in zip(itertools.cycle(kinds), itertools.cycle(MODES), strict=False):
        yield Case(mode, number, group, workers)


def main() -> int:
    """Run the program; returns 1 when a run that was killed differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="trainings that are killed")
    parser.add_argument("--kills", type=int, default=1, help="kills of each")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("more", nargs="*", help="further options of train, after --")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_embedded(folder / "set", subjects=3, repeats=1)
        common = ["--data", str(folder / "set"), "--name", "run", "--batch-size", "2", "--steps", str(options.steps)]
        common += ["--precision", "float32", "--checkpoint-every", "2", *options.more]
        wanted = {}
        for mode in MODES:
            begun = time.monotonic()
            _finish(mode, [*common, "--out", str(folder / mode)])
            wanted[mode] = contents(folder / mode)
            seconds = time.monotonic() - begun
            print(f"{mode}, not interrupted: {seconds:.0f} s, {len(wanted[mode])} files to compare", flush=True)
        different = total = 0
        for run, case in zip(range(options.runs), cases(), strict=False):
            out = folder / f"run{run}"
            command = [*common, "--out", str(out), "--workers", str(case.workers)]
            killed = [_kill(case, command, out, rng, options.steps) for _ in range(options.kills)]
            _finish(case.mode, command)
            found = contents(out)
            names = {*wanted[case.mode], *found}
            wrong = sorted(path for path in names if wanted[case.mode].get(path) != found.get(path))
            total += sum(moment is not None for moment in killed)
            different += bool(wrong)
            moments = ", ".join("not in time" if moment is None else f"after {moment}" for moment in killed)
            print(f"run {run + 1}: {case} {moments}: {', '.join(wrong) or 'the same'}", flush=True)
    print(f"{options.runs} runs, killed {total} times, {different} differ")
    return 1 if different else 0


def contents(out: Path) -> dict[str, str]:
    """Digest of every file in the run's folder that must not depend on interruptions."""
    names = {*TABLES, *TENSORS}
    paths = [path for path in out.rglob("*") if path.name in names or path.parent.name == "scorings"]
    paths += out.rglob("folds/*/config.json")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _start(mode: str, options: list[str]) -> subprocess.Popen[bytes]:
    start = TORCHRUN if mode == "two ranks" else ()
    command = [sys.executable, "-m", *start, "mol_fast.train", *MODES[mode], *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=nothing, stderr=subprocess.PIPE, env=environment, start_new_session=True)


def _finish(mode: str, options: list[str]) -> None:
    process = _start(mode, options)
    error = process.communicate()[1].decode()
    if process.returncode:
        raise SystemExit(f"a training ended with exit code {process.returncode}: {error}")


def _kill(case: Case, options: list[str], out: Path, rng: random.Random, steps: int) -> str | None:
    """Train until a random step and a moment more, then kill. Give the step, or None if the training ended before."""
    step, moment = rng.randrange(steps + 1), rng.uniform(0, 0.3)
    with _start(case.mode, options) as process:
        while process.poll() is None and _steps(out) < step:
            time.sleep(0.01)
        time.sleep(moment)
        if process.poll() is not None:
            return None
        if case.group:
            os.killpg(process.pid, case.signal)
        else:
            ranks = _ranks(process.pid) if case.mode == "two ranks" else []
            os.kill(rng.choice(ranks or [process.pid]), case.signal)
        process.communicate()
    return f"step {_steps(out)}"


def _steps(out: Path) -> int:
    """Steps that are logged, in all folds."""
    return sum(max(0, path.read_text().count("\n") - 1) for path in out.rglob("metrics.csv"))


def _ranks(agent: int) -> list[int]:
    """The processes that torchrun started so far."""
    return [int(pid) for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]


if __name__ == "__main__":
    sys.exit(main())
