"""Leave-one-subject-out on random labels: nothing can be learned, so a score above chance is a leak.

    python tests/shows/leak_runs.py --data-dir FOLDER

The embedded set gets labels drawn at random, and every subject is held out once (--tasks mer), with --selection test
and inner. The scores of the last weights, and those of the step that is chosen on training subjects, must
lie within the 95 % interval of chance; those of the step that is chosen on the held-out subject above it. Chance is
what the same predictions score against labels drawn again. It exits with 1 when any does not hold. The tests do not
collect this program: it takes minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mol_fast.data import embedded_set
from mol_fast.data.store import write_index, write_video
from mol_fast.metrics import recognition_ratios

LABELS = ("disgust", "happiness", "surprise")
"""One of each class of the protocol embedded-3."""
DRAWS = 10_000


def main() -> int:
    """Run the program; returns 1 where a score is not where it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where the embedded set is kept, as for train")
    parser.add_argument("--repeats", type=int, default=1, help="sets of random labels")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--model", default="mol", help="as for train")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the folds")
    options = parser.parse_args()
    wrong = 0
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            random_labels(options.data_dir, folder / "set", repeat)
            last, chosen, (low, high) = run(folder, options, "test")
            inner, _, (inner_low, inner_high) = run(folder, options, "inner")
        honest, leaks, inside = low <= last <= high, chosen > high, inner_low <= inner <= inner_high
        wrong += not (honest and leaks and inside)
        print(f"labels {repeat + 1}: UF1 of chance {low:.3f} to {high:.3f}", end="; ")
        print(f"last weights {last:.3f}{'' if honest else ' NOT WITHIN'}", end="; ")
        print(f"chosen on the test subject {chosen:.3f}{'' if leaks else ' NOT ABOVE'}", end="; ")
        print(f"chosen on training subjects {inner:.3f}{'' if inside else ' NOT WITHIN'}", end=" ")
        print(f"({inner_low:.3f} to {inner_high:.3f})", flush=True)
    return 1 if wrong else 0


def random_labels(data_dir: Path | None, folder: Path, seed: int) -> None:
    """A set in `folder` with the videos of the embedded set and labels drawn at random."""
    source = embedded_set(data_dir)
    labels = np.random.default_rng(seed).choice(LABELS, len(source.videos))
    videos = []
    for video, label in zip(source.videos, map(str, labels), strict=True):
        path = folder / video.path.relative_to(source.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {"subject": video.subject, "video": video.name, "label": label, "source": video.source}
        write_video(path, *video.read(), **names)
        videos.append(replace(video, label=label, path=path))
    write_index(folder, videos, {"name": "random labels", "source": "embedded"})


def run(folder: Path, options: argparse.Namespace, selection: str) -> tuple[float, float, tuple[float, float]]:
    """UF1 of the kept weights and of the steps chosen on the test subjects, if any, and the interval of chance."""
    steps, processes = options.steps, options.processes
    train = ["-m", "mol_fast.train", "--data", str(folder / "set"), "--out", str(folder), "--name", selection]
    train += ["--protocol", "embedded-3", "--folds", "all", "--tasks", "mer", "--selection", selection]
    train += ["--model", options.model]
    train += ["--steps", str(steps), "--score-every", str(max(1, steps // 50))]
    train += ["--lr", "3e-3", "--schedule", "constant"]  # steps that differ, for the test to choose among
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    done = subprocess.run([sys.executable, *start, *train], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    scores = json.loads((folder / selection / "scores.json").read_text())
    table = pd.read_csv(folder / selection / "predictions.csv")
    interval = interval_of_chance(table["label"], table["predicted"])
    kept, chosen = (part["seeds"]["0"]["recognition"]["uf1"] for part in (scores, scores.get("chosen_on_test", scores)))
    return kept, chosen, interval


def interval_of_chance(labels: "pd.Series[str]", predicted: "pd.Series[str]") -> tuple[float, float]:
    """95 % interval of the UF1 that `predicted` has against random orders of `labels`."""
    classes = sorted({*labels, *predicted})
    true, guess = (np.array([classes.index(name) for name in names]) for names in (labels, predicted))
    rng = np.random.default_rng(0)
    count = len(classes)
    cells = np.stack([np.bincount(count * rng.permutation(true) + guess, minlength=count**2) for _ in range(DRAWS)])
    scores: npt.NDArray[np.float64] = recognition_ratios(cells.reshape(-1, count, count)).uf1
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
