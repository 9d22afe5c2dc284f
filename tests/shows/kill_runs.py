"""Kill trainings at random moments, go on with the same command, and compare with one that was never interrupted.

    python tests/shows/kill_runs.py --runs 20
    python tests/shows/kill_runs.py --runs 5 --signal TERM

Every run is killed again and again, until it has had its number of kills or ends by itself. Losses, scores,
predictions, scorings, configurations of folds and weights must then be the same, byte for byte. It prints what was
killed when, and exits with 1 on any difference. The tests do not collect this program: it takes minutes.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mol_fast.data import generate_embedded

TABLES = ("metrics.csv", "scores.json", "predictions.csv", "folds.csv", "megc2019.csv", "windows.csv")
TENSORS = ("weights.safetensors", "samples.safetensors")


def main() -> int:
    """Run the program; returns 1 when a run that was killed differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="trainings that are killed")
    parser.add_argument("--kills", type=int, default=3, help="most kills of each")
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("more", nargs="*", help="further options of train, after --")
    options = parser.parse_args()
    number = signal.Signals[f"SIG{options.signal}"]
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_embedded(folder / "set", subjects=3, repeats=1)
        command = [sys.executable, "-m", "mol_fast.train", "--data", str(folder / "set"), "--batch-size", "2"]
        command += ["--steps", str(options.steps), "--precision", "float32", "--checkpoint-every", "3", *options.more]
        start = time.monotonic()
        wanted = _whole(command, folder / "whole")
        longest = time.monotonic() - start
        print(f"uninterrupted: {longest:.1f} s, {len(wanted)} files to compare", flush=True)
        different = total = 0
        for run in range(options.runs):
            out = folder / f"run{run}"
            moments = _killed(command, out, number, [rng.uniform(0, longest) for _ in range(options.kills)])
            found = contents(out)
            wrong = sorted(path for path in {*wanted, *found} if wanted.get(path) != found.get(path))
            total += len(moments)
            different += bool(wrong)
            text = ", ".join(f"{moment:.1f} s" for moment in moments) or "not killed"
            print(f"run {run + 1}: {number.name} after {text}: {', '.join(wrong) or 'the same'}", flush=True)
    print(f"{options.runs} runs, {total} times {number.name}, {different} runs differ")
    return 1 if different else 0


def contents(out: Path) -> dict[str, str]:
    """Digest of every file in the run's folder that must not depend on interruptions."""
    names = {*TABLES, *TENSORS}
    paths = [path for path in out.rglob("*") if path.name in names or path.parent.name == "scorings"]
    paths += out.rglob("folds/*/config.json")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _start(command: list[str], out: Path) -> subprocess.Popen[bytes]:
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    arguments = [*command, "--out", str(out), "--name", "run"]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def _whole(command: list[str], out: Path) -> dict[str, str]:
    code = _start(command, out).wait()
    if code:
        raise SystemExit(f"the uninterrupted training ended with exit code {code}")
    return contents(out)


def _killed(command: list[str], out: Path, number: signal.Signals, moments: list[float]) -> list[float]:
    """Train with kills after the given seconds of each attempt; gives those that came before the end."""
    done = []
    for moment in moments:
        process = _start(command, out)
        try:
            code = process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait()
            done.append(moment)
            continue
        if code:
            raise SystemExit(f"a training that went on in {out} ended with exit code {code}")
        return done
    _whole(command, out)
    return done


if __name__ == "__main__":
    sys.exit(main())
