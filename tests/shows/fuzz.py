"""Read damaged and hostile files of every format, many of them, in processes with limits of time and memory.

    python tests/shows/fuzz.py --cases 1000 --seed 0

It prints every traceback, hang, excess of memory and accepted flipped bit, and ends with 1 if there is any. A case can
be repeated alone with --only NUMBER.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from harness.fuzz_formats import FORMATS  # noqa: E402
from harness.fuzzing import ACCEPTED, REFUSED, Fuzzer  # noqa: E402

SECONDS = 20.0
"""Longest time of a case, of its processor. By the clock it may take ten times as long, on a busy machine."""
BYTES = 1.5e9
"""Most memory of a process."""


@dataclass
class Worker:
    """A process that runs cases, one at a time."""

    folder: Path
    seed: int
    case: int = -1
    since: float = 0.0
    used: float = 0.0
    peak: float = 0.0
    ready: bool = False
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.folder, self.seed), daemon=True)
        self.process.start()
        other.close()

    def give(self, case: int) -> None:
        self.case, self.since, self.used = case, time.monotonic(), processor_time(self.process.pid or 0)
        self.connection.send(case)

    def excess(self) -> str | None:
        """What the process has too much of, time or memory; None if all is well."""
        self.peak = max(self.peak, memory(self.process.pid or 0))
        if self.peak > BYTES:
            return f"more than {BYTES / 1e9:.1f} GB"
        if self.case >= 0 and (self.seconds() > SECONDS or time.monotonic() - self.since > 10 * SECONDS):
            return f"more than {SECONDS:.0f} s"
        return None

    def seconds(self) -> float:
        """Processor time of the case so far."""
        return processor_time(self.process.pid or 0) - self.used

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def work(connection: Connection, folder: Path, seed: int) -> None:
    fuzzer = Fuzzer(folder, seed, FORMATS)
    connection.send(None)
    while True:
        connection.send(fuzzer.run(connection.recv()))


def memory(pid: int) -> float:
    """Largest resident memory of a process so far, in bytes; 0 if it has ended or there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def processor_time(pid: int) -> float:
    """Processor time of a process so far, in seconds; 0 if it has ended or there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the cases; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int, help="run this case alone, in this process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.only is not None:
            print(*Fuzzer(Path(name), options.seed, FORMATS).run(options.only), sep=": ")
            return 0
        return run(Path(name), options.cases, options.seed, options.workers)


def run(folder: Path, cases: int, seed: int, count: int) -> int:
    begin = time.monotonic()
    waiting = iter(range(cases))
    started = 0
    workers: list[Worker] = []
    outcomes: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    peak = slowest = 0.0

    def another() -> Worker:
        nonlocal started
        started += 1
        return Worker(folder / str(started), seed)

    def fail(message: str) -> None:
        failures.append(message)
        print(f"{message}\n", flush=True)

    workers = [another() for _ in range(count)]
    while workers:
        answered = wait([worker.connection for worker in workers], timeout=0.1)
        for worker in list(workers):
            problem = worker.excess()
            peak = max(peak, worker.peak)
            if problem is None and worker.connection in answered:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    problem = f"the process ended with {worker.process.exitcode}"
                else:
                    if answer is not None:
                        slowest = max(slowest, worker.seconds())
                        form, outcome = answer
                        outcomes[form, outcome if outcome in (REFUSED, ACCEPTED) else "failed"] += 1
                        if outcome not in (REFUSED, ACCEPTED):
                            fail(f"case {worker.case}, {form}: {outcome}")
                    case = next(waiting, None)
                    if case is None:
                        worker.end()
                        workers.remove(worker)
                    else:
                        worker.give(case)
            if problem is not None:
                fail(f"case {worker.case}: {problem}")
                worker.end()
                workers[workers.index(worker)] = another()
    for (form, outcome), number in sorted(outcomes.items()):
        print(f"{form:18}{outcome:10}{number:6}")
    seconds = time.monotonic() - begin
    print(f"{cases} cases in {seconds:.0f} s, the slowest {slowest:.1f} s, at most {peak / 1e9:.2f} GB in a process")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
