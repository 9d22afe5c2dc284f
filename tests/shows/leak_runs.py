"""Leave-one-subject-out on random labels: nothing can be learned, so an accuracy above chance is a leak.

    python tests/shows/leak_runs.py --data-dir FOLDER

Every subject of the embedded set gets each of three classes equally often, at random, and is held out once, with
--selection test and inner. Without a leak the accuracy is a third on average over sets of labels, whatever the model.
It varies more than that of independent guesses, because the folds share their training videos; so the unit is a set of
labels, with weights of its own, and the mean over several is compared with a third by a one-sided t-test at 1 %.

Three accuracies must not be above chance: of the last weights, of those of the step that is chosen on training
subjects, and of the baseline histograms, which learns more of its training labels by heart (0.6 are right) than a few
steps do.
That of the step that is chosen on the held-out subjects must be above chance, or a leak would not show. It exits with 1
when any does not hold.

Every video has one window, to save time. The tests do not collect this program: it takes ten minutes of a core.
"""

import argparse
import io
import json
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from mol_fast.data import PreparedSet, embedded_set
from mol_fast.data.clips import cut_window
from mol_fast.data.store import write_index, write_video
from mol_fast.data.video_data import VideoData
from mol_fast.train import main as train

LABELS = ("disgust", "happiness", "surprise")
"""One of each class of the protocol embedded-3."""
CHANCE = 1 / len(LABELS)
LEVEL = 0.01
"""Probability that a model without a leak is called above chance."""
SCORINGS = 12
"""Steps of a fold to choose among."""


def main() -> int:
    """Run the program; returns 1 where a mean is not where it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where the embedded set is kept, as for train")
    parser.add_argument("--repeats", type=int, default=6, help="sets of random labels, at least 2")
    parser.add_argument("--steps", type=int, default=60, help="of 4 clips")
    parser.add_argument("--model", default="ststnet", help="as for train")
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats must be at least 2: the spread between them tells how far from chance counts")
    source = embedded_set(options.data_dir)
    found: dict[str, list[float]] = {
        "last weights": [],
        "chosen on training subjects": [],
        "histograms": [],
        "chosen on test subjects": [],
    }
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            random_labels(source, folder / "set", repeat)
            stepwise = ["--model", options.model, "--steps", str(options.steps)]
            stepwise += ["--score-every", str(max(1, options.steps // SCORINGS)), "--selection"]
            last, chosen = run(folder, repeat, *stepwise, "test")
            inner, _ = run(folder, repeat, *stepwise, "inner")
            fitted, _ = run(folder, repeat, "--model", "histograms")
        for values, value in zip(found.values(), (last, inner, fitted, chosen), strict=True):
            values.append(value)
        print(
            f"labels {repeat + 1}: " + "; ".join(f"{what} {values[-1]:.3f}" for what, values in found.items()),
            flush=True,
        )
    above = {what: is_above(values) for what, values in found.items()}
    for what, values in found.items():
        spread = np.std(values, ddof=1) / len(values) ** 0.5
        needed = CHANCE + stats.t.ppf(1 - LEVEL, len(values) - 1) * spread
        verdict = "above chance" if above[what] else "at chance"
        print(f"{what}: mean accuracy {np.mean(values):.3f}, {verdict} (from {needed:.3f} on it counts as above)")
    *honest, leaks = above.values()
    return 0 if leaks and not any(honest) else 1


def is_above(accuracies: list[float]) -> bool:
    """Whether the mean of accuracies, one for each set of labels, is above chance (one-sided t-test)."""
    test = stats.ttest_1samp(accuracies, CHANCE, alternative="greater")
    return bool(test.pvalue < LEVEL)


def random_labels(source: PreparedSet, folder: Path, seed: int) -> None:
    """A set in `folder` with the first window of each video of `source`, and labels drawn at random."""
    rng = np.random.default_rng(seed)
    labels = {}
    for subject in source.subjects:
        own = [video for video in source.videos if video.subject == subject]
        labels |= zip([video.id for video in own], rng.permutation(np.resize(LABELS, len(own))).tolist(), strict=True)
    videos = []
    for video in source.videos:
        path = folder / video.path.relative_to(source.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        clip = cut_window(video.read(), 0)
        data = VideoData(clip.frames, clip.landmarks, clip.flow.transpose(0, 1))
        names = {"subject": video.subject, "video": video.name, "label": labels[video.id], "source": video.source}
        write_video(path, *data, **names)
        videos.append(replace(video, label=labels[video.id], path=path, frames=len(clip.frames)))
    write_index(folder, videos, {"name": "random labels", "source": "embedded"})


def run(folder: Path, seed: int, *more: str) -> tuple[float, float]:
    """Accuracy of the kept weights, and of the steps chosen on the test subjects, if any."""
    name = more[-1]
    asked = ["--data", str(folder / "set"), "--out", str(folder), "--name", name, "--protocol", "embedded-3"]
    asked += ["--folds", "all", "--tasks", "mer", "--batch-size", "4", "--seed", str(seed)]
    asked += ["--lr", "3e-3", "--schedule", "constant", *more]  # steps that differ, for the test to choose among
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as printed:
        code = train(asked)
    if code:
        raise SystemExit(printed.getvalue())
    scores = json.loads((folder / name / "scores.json").read_text())
    kept, chosen = (
        part["seeds"][str(seed)]["recognition"]["accuracy"] for part in (scores, scores.get("chosen_on_test", scores))
    )
    return kept, chosen


if __name__ == "__main__":
    sys.exit(main())
