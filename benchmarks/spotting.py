"""Spot moments in embedded long videos of subjects that nothing was tuned on: python benchmarks/spotting.py

    python benchmarks/spotting.py --results spotting.jsonl            the whole table, about an hour of one core
    python benchmarks/spotting.py --results spotting.jsonl --fps 200  only videos of 200 frames per second

Twenty videos of 30 seconds at 30 and at 200 frames per second with micro- and macro-expressions, blinks, gaze, turns of
the head and some speech; ten of still photographs, ten of neutral faces, and five of speaking ones. Landmarks get an
error of 0.3 pixels. The baseline, flow in its main direction against a moving threshold, sees the same frames. Every
video adds a line to the results; videos that are there already are not measured again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mol_fast.data import generate_long
from mol_fast.data.embedded.long_video import Scene
from mol_fast.metrics import Interval, SpottedVideo, spotting_scores
from mol_fast.spotting import MainDirection, Spotter

SECONDS = 30.0
FIRST_SUBJECT = 20  # constants were chosen on subjects 0 to 7
JITTER = 0.3  # error of the landmarks, pixels
VIDEOS: tuple[tuple[Scene, int], ...] = (("expressions", 20), ("still", 10), ("neutral", 10), ("speech", 5))
METHODS = ("spotter", "main direction")


def videos(rates: list[float]) -> list[tuple[int, Scene, float]]:
    """Return subject, scene and frame rate of the videos to measure."""
    return [
        (subject, scene, fps)
        for fps in rates
        for scene, count in (VIDEOS if fps == 30 else VIDEOS[:1])
        for subject in range(FIRST_SUBJECT, FIRST_SUBJECT + count)
    ]


def measure(subject: int, scene: Scene, fps: float) -> dict[str, Any]:
    """Spot the moments of a video by both methods. Returns what the table needs."""
    video = generate_long(subject, scene, SECONDS, fps)
    rng = np.random.default_rng(video.seed)
    spotter, baseline = Spotter(), MainDirection()
    moments, spent = [], [0.0, 0.0]
    for chunk in video.chunks():
        landmarks = chunk.landmarks.numpy() + rng.normal(0, JITTER, chunk.landmarks.shape)
        for place, frame in enumerate(chunk.frames.numpy()):
            given = frame, landmarks[place], float(chunk.times[place]), chunk.first + place
            started = time.process_time()
            moments += spotter.add(*given)
            between = time.process_time()
            baseline.add(*given)
            spent[0] += between - started
            spent[1] += time.process_time() - between
    started = time.process_time()
    moments += spotter.finish()
    spent[0] += time.process_time() - started
    found = [moment.interval for moment in moments], baseline.finish()
    return {
        "subject": subject,
        "scene": scene,
        "fps": fps,
        "frames": video.frames,
        "true": [asdict(interval) for interval in video.intervals],
        "found": {method: [asdict(one) for one in intervals] for method, intervals in zip(METHODS, found, strict=True)},
        "core_seconds": dict(zip(METHODS, spent, strict=True)),
    }


def read(results: Path) -> list[dict[str, Any]]:
    """Return what was measured, one object a video."""
    return [json.loads(line) for line in results.read_text().splitlines()]


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Return the lines of the table in Markdown."""
    columns = ("scene", "fps", "videos", "method", "F1 micro", "F1 macro", "F1 both", "false a minute", "onset, offset")
    yield f"| {' | '.join([*columns, 'ms a frame'])} |"
    yield "|---" * (len(columns) + 1) + "|"
    for scene, _ in VIDEOS:
        for fps in sorted({row["fps"] for row in rows}):
            here = [row for row in rows if (row["scene"], row["fps"]) == (scene, fps)]
            for method in METHODS if here else ():
                yield _line(scene, fps, method, here)


def _line(scene: str, fps: float, method: str, rows: list[dict[str, Any]]) -> str:
    spotted = []
    for row in rows:
        true, found = _intervals(row["true"]), _intervals(row["found"][method])
        spotted.append(SpottedVideo(f"subject {row['subject']}", true, found, row["frames"], fps))
    scores = spotting_scores(spotted)
    pairs = [match for video in spotted for match in video.matches]
    errors = [
        (abs(match.found.onset - match.true.onset), abs(match.found.offset - match.true.offset))
        for match in pairs
        if match.true and match.found
    ]
    off = ", ".join(f"{value:g}" for value in np.median(errors, axis=0)) if errors else ""
    ratios = " | ".join("" if counts.f1 is None else f"{counts.f1:.2f}" for counts in _kinds(scores))
    cost = 1000 * sum(row["core_seconds"][method] for row in rows) / sum(row["frames"] for row in rows)
    numbers = f"{scores.false_per_minute:.2f} | {off} | {cost:.1f}"
    return f"| {scene} | {fps:g} | {len(spotted)} | {method} | {ratios} | {numbers} |"


def _kinds(scores: Any) -> tuple[Any, Any, Any]:
    return scores.micro, scores.macro, scores.both


def _intervals(rows: list[dict[str, Any]]) -> tuple[Interval, ...]:
    return tuple(Interval(**row) for row in rows)


def main() -> None:
    """Measure the videos that are missing in the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="file of results, one JSON object a line")
    parser.add_argument("--fps", type=float, nargs="*", default=[30.0, 200.0], help="frame rates to measure")
    parser.add_argument("--part", type=int, nargs=2, default=[1, 1], metavar=("K", "N"), help="part K of N processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.results.touch()
    part, parts = options.part
    for video in videos(options.fps)[part - 1 :: parts]:
        if video not in {(row["subject"], row["scene"], row["fps"]) for row in read(options.results)}:
            line = json.dumps(measure(*video))
            with options.results.open("a") as file:
                file.write(line + "\n")
    print(*table(read(options.results)), sep="\n")


if __name__ == "__main__":
    main()
