"""Spot moments in embedded long videos of subjects that nothing was tuned on: python benchmarks/spotting.py

    python benchmarks/spotting.py --results spotting.jsonl            the whole table, about an hour of one core
    python benchmarks/spotting.py --results spotting.jsonl --fps 200  only videos of 200 frames per second

Twenty videos of 30 seconds at 30 and at 200 frames per second with micro- and macro-expressions, blinks, gaze, turns of
the head and some speech; ten of still photographs, ten of neutral faces, and five of speaking ones. Landmarks have an
error of 0.3 pixels. The baseline, flow in its main direction against a moving threshold, sees the same frames. Every
video adds a line to the results; videos that are there already are not measured again. A note tells if the spotter has
changed since: remove their lines to measure them again. The sets of videos stay in --sets;
`python -m mol_fast.evaluate --spotting SET --weights RUN` scores those with expressions together with weights.
"""

import argparse
import ast
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import mol_fast.spotting
from mol_fast.data import generate_long_set
from mol_fast.data.embedded.long_video import Scene
from mol_fast.data.recordings import Recording, open_recordings
from mol_fast.metrics import Interval, SpottedVideo, spotting_scores
from mol_fast.spotting import MainDirection, Spotter

SECONDS = 30.0
FIRST_SUBJECT = 20  # constants were chosen on subjects 0 to 7
VIDEOS: tuple[tuple[Scene, int], ...] = (("expressions", 20), ("still", 10), ("neutral", 10), ("speech", 5))
METHODS = ("spotter", "main direction")
UNUSED = ("__init__.py", "table.py", "view.py")  # files of the package that find no moment


def version() -> str:
    """Return a digest of the source code of both methods."""
    files = sorted(Path(mol_fast.spotting.__file__).parent.glob("*.py"))
    return digest(file.read_text() for file in files if file.name not in UNUSED)


def digest(sources: Iterable[str]) -> str:
    """Return a digest of what source code does: imports, docstrings, comments and line breaks do not count."""
    content = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [one for one in node.body if not _does_nothing(one)]
        content.update(ast.unparse(tree).encode())
    return content.hexdigest()[:16]


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def measure(recording: Recording) -> dict[str, Any]:
    """Spot the moments of a video by both methods. Returns what the table needs."""
    data = recording.read()
    frames = [
        (frame, landmarks, float(time_stamp), int(number))
        for frame, landmarks, number, time_stamp in zip(*(tensor.numpy() for tensor in data[:4]), strict=True)
    ]
    spotter, baseline = Spotter(), MainDirection()
    moments, started = [], time.process_time()
    for given in frames:
        moments += spotter.add(*given)
    moments += spotter.finish()
    between = time.process_time()
    for given in frames:
        baseline.add(*given)
    found = [moment.interval for moment in moments], baseline.finish()
    spent = between - started, time.process_time() - between
    return {
        "frames": recording.frames,
        "true": [asdict(interval) for interval in recording.intervals],
        "found": {method: [asdict(one) for one in intervals] for method, intervals in zip(METHODS, found, strict=True)},
        "core_seconds": dict(zip(METHODS, spent, strict=True)),
    }


def measure_scene(sets: Path, scene: Scene, fps: float, count: int, results: Path) -> None:
    """Measure the videos of a scene that are missing in the results, and generate their set if it is missing."""
    there = {(row["subject"], row["scene"], row["fps"]) for row in read(results)}
    subjects = [FIRST_SUBJECT + place for place in range(count)]
    if all((subject, scene, fps) in there for subject in subjects):
        return
    folder = sets / f"{scene}-{fps:g}"
    if not (folder / "set.json").exists():
        generate_long_set(folder, subjects, SECONDS, fps, scene)
    for subject, recording in zip(subjects, open_recordings(folder), strict=True):
        if (subject, scene, fps) not in there:
            video = {"subject": subject, "scene": scene, "fps": fps, "version": version()}
            line = json.dumps(video | measure(recording))
            with results.open("a") as file:
                file.write(line + "\n")


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
    parser.add_argument("--sets", type=Path, default=Path("runs/long-sets"), help="folder of the sets of videos")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.results.touch()
    for fps in options.fps:
        for scene, count in VIDEOS if fps == 30 else VIDEOS[:1]:
            measure_scene(options.sets, scene, fps, count, options.results)
    rows = read(options.results)
    if old := sum(row.get("version") != version() for row in rows):
        print(f"note: the spotter has changed since {old} of {len(rows)} videos were measured", file=sys.stderr)
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    main()
