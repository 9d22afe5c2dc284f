"""Measure the host overhead of F5C on the Triton kernels, before and after prepared launches. Needs no GPU.

    python benchmarks/host_overhead.py [--commit 22b8073] [--rounds 15]

Counts calls of Python and built-in functions (cProfile) and measures CPU time, for forward and backward in training and
for a forward in evaluation, in bfloat16 autocast with float32 parameters. Everything up to the device's driver is real:
dispatch, autograd, allocation, Triton's launch. The maps are small, because host overhead does not depend on their
size. Two processes, one per commit, are measured in turn, so that other load on the machine affects both.
"""

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
BEFORE = "22b8073"
"""Last commit whose operators built launches at every call."""

STEPS = 40
"""Passes per round; the fastest counts."""

PASSES = {"training": "forward and backward, training", "evaluation": "forward, evaluation"}


def passes() -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Return for each kind of pass a function to call before it, unmeasured, and the pass."""
    import torch
    from no_launch import NoLaunch, takes_cpu_tensors
    from triton.runtime import driver

    from mol_fast import F5C

    torch.set_num_threads(1)
    driver.set_active(NoLaunch())
    takes_cpu_tensors(setattr, os.environ.__setitem__)
    groups, shape = 7, (14, 16, 4, 4)
    training, evaluation = (F5C(16, 4, backend="triton").train(train) for train in (True, False))
    x, gradient = (torch.randn(shape, dtype=torch.bfloat16) for _ in range(2))
    leaf = x.clone().requires_grad_()

    def forget() -> None:
        leaf.grad = None
        training.zero_grad()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            y = training(leaf, groups)
        y.backward(gradient)

    def evaluate() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            evaluation(x)

    return {"training": (forget, step), "evaluation": (lambda: None, evaluate)}


def count(prepare: Callable[[], None], run: Callable[[], None]) -> int:
    """Count the calls of Python and built-in functions in one pass."""
    prepare()
    profile = cProfile.Profile()
    profile.runcall(run)
    return int(pstats.Stats(profile).total_calls) - 1  # without the call that stops the profiler


def fastest(prepare: Callable[[], None], run: Callable[[], None]) -> float:
    """Return the CPU seconds of the fastest of STEPS passes; other processes do not count."""
    times = []
    for _ in range(STEPS):
        prepare()
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times)


def serve() -> None:
    """Run as a child: print counts, then print the times of a round for every line read."""
    kinds = passes()
    for prepare, run in kinds.values():
        for _ in range(3):
            prepare()
            run()
    print(json.dumps({kind: count(*pair) for kind, pair in kinds.items()}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({kind: fastest(*pair) for kind, pair in kinds.items()}), flush=True)


def check_out(commit: str, folder: Path) -> None:
    """Extract the packages of a commit into `folder`, as `mol_fast` with kernels and reference inside."""
    archive = folder / "tree.tar"
    command = ["git", "-C", str(ROOT), "archive", f"--output={archive}", commit, "mol_fast", "kernels", "reference"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SystemExit("git is not installed, so the earlier commit cannot be compared") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"commit {commit} is not in this clone, so it cannot be compared: {error.stderr.strip()}"
        ) from error
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    link(folder, folder)


def link(tree: Path, folder: Path) -> None:
    """Link kernels and reference of a source tree into `mol_fast` in `folder`."""
    for room in ("kernels", "reference"):
        (folder / "mol_fast" / room).symlink_to(tree / room)


class Child:
    """A process that measures one source tree."""

    def __init__(self, tree: Path | None) -> None:
        path = [] if tree is None else [str(tree)]
        environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(path)}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.calls = self.read()

    def read(self) -> dict[str, float]:
        line = pipe(self.process.stdout).readline()
        if not line:
            raise SystemExit(f"the process that measures ended with code {self.process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def round(self) -> dict[str, float]:
        pipe(self.process.stdin).write("\n")
        pipe(self.process.stdin).flush()
        return self.read()

    def close(self) -> None:
        pipe(self.process.stdin).close()
        self.process.wait()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def compare(commit: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return calls and seconds of each kind of pass, before and after, and the median ratio of times per round."""
    with tempfile.TemporaryDirectory() as folder:
        check_out(commit, Path(folder))
        before, after = Child(Path(folder)), Child(None)
        times = [(before.round(), after.round()) for _ in range(rounds)]
        for child in (before, after):
            child.close()
    return {
        kind: {
            "calls before": before.calls[kind],
            "calls after": after.calls[kind],
            "seconds before": statistics.median(first[kind] for first, _ in times),
            "seconds after": statistics.median(second[kind] for _, second in times),
            "time ratio": statistics.median(second[kind] / first[kind] for first, second in times),
        }
        for kind in PASSES
    }


def show(found: dict[str, dict[str, float]], commit: str) -> None:
    print(f"{'F5C, launches stubbed':32}{commit:>12}{'now':>12}{'ratio':>9}")
    for kind, name in PASSES.items():
        row = found[kind]
        calls = row["calls before"], row["calls after"]
        print(f"{name}")
        print(f"{'  Python calls':32}{calls[0]:12.0f}{calls[1]:12.0f}{calls[1] / calls[0]:9.3f}")
        microseconds = 1e6 * row["seconds before"], 1e6 * row["seconds after"]
        print(f"{'  time, us':32}{microseconds[0]:12.0f}{microseconds[1]:12.0f}{row['time ratio']:9.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--commit", default=BEFORE, help="commit to compare with")
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds of both, in turn")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    else:
        show(compare(options.commit, options.rounds), options.commit)


if __name__ == "__main__":
    main()
