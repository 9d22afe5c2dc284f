"""Time and memory of `python -m mol_fast.predict` on a video of a face: python benchmarks/predict_video.py

    python benchmarks/predict_video.py                           20 seconds of 640 x 360 pixels at 25 frames per second
    python benchmarks/predict_video.py --seconds 60 600 --fps 30  memory: a minute and ten
    python benchmarks/predict_video.py --beside ../old --rounds 3  another checkout of this project, in turn

The video is an embedded long video, with expressions, blinks and motion of the head, enlarged and on a grey wall.
Longer videos repeat it. Without --weights, those of an untrained model are used.
Processor time counts all threads, imports included. The code of all checkouts is compiled first, as pip does.
"""

import argparse
import compileall
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

from mol_fast import MOL, PRESETS
from mol_fast.data import generate_long
from mol_fast.nn.weights import save_weights
from mol_fast.vision.write_video import VideoWriter

SECONDS = 20.0
SIZE, FACE = (640, 360), 300  # pixels
CLASSES = ("negative", "positive", "surprise")
MEASURED = """
import resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(code)
"""
"""A small process that runs and measures a command: what it starts is told at least its own peak memory."""


def write_base(path: Path, fps: float) -> None:
    """Write 20 seconds of a face."""
    left, top = (SIZE[0] - FACE) // 2, (SIZE[1] - FACE) // 2
    with VideoWriter(path, SIZE, fps) as writer:
        for chunk in generate_long(20, "expressions", SECONDS, fps).chunks():
            for frame in chunk.frames.numpy():
                picture = np.full((SIZE[1], SIZE[0], 3), 110, dtype=np.uint8)
                face = cv2.resize(frame, (FACE, FACE), interpolation=cv2.INTER_CUBIC)
                picture[top : top + FACE, left : left + FACE] = face[..., None]
                writer.write(picture)


def repeat(base: Path, path: Path, seconds: float) -> None:
    """Write the base video again and again, without decoding it."""
    with av.open(str(path), "w") as output:
        stream, begin = None, 0
        while stream is None or float(begin * stream.time_base) < seconds:
            with av.open(str(base)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size and float((begin + packet.pts) * packet.time_base) < seconds:
                        packet.pts, packet.dts, packet.stream = begin + packet.pts, begin + packet.dts, stream
                        output.mux(packet)
                begin += round(SECONDS / source.streams.video[0].time_base)


def measure(tree: Path, video: Path, weights: Path, out: Path, options: list[str]) -> tuple[float, float, float]:
    """Run predict of a checkout. Returns wall seconds, processor seconds and peak memory in MB."""
    command = [sys.executable, "-m", "mol_fast.predict", str(video), "--weights", str(weights), "--out", str(out)]
    paths = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", MEASURED, *command, *options],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
    )
    if found.returncode:
        raise SystemExit(f"predict of {tree} ended with exit code {found.returncode}")
    wall, cores, peak = (float(word) for word in found.stdout.split())
    return wall, cores, peak / 1024


def main() -> None:
    """Measure all videos and checkouts in turn, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[SECONDS], help="lengths of the videos")
    parser.add_argument("--fps", type=float, default=25.0, help="frames per second of the videos")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="other checkouts of this project")
    parser.add_argument("--weights", type=Path, help="weights that all checkouts can read")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--options", default="", help="further options of predict, in one string")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_base(folder / "base.mp4", options.fps)
        weights = folder / "weights.safetensors" if options.weights is None else options.weights.resolve()
        if options.weights is None:
            save_weights(weights, MOL(config=PRESETS["small"]), {"classes": list(CLASSES)})
        print(f"{'checkout':>12} {'video':>7} {'wall':>8} {'frames/s':>9} {'processor':>10} {'peak memory':>12}")
        trees = [tree.resolve() for tree in (Path(__file__).parents[1], *options.beside)]
        for tree in trees:
            for code in ("mol_fast", "kernels"):
                compileall.compile_dir(tree / code, quiet=2)
        for _ in range(options.rounds):
            for seconds in options.seconds:
                video = folder / f"{seconds:g}.mp4"
                if not video.exists():
                    repeat(folder / "base.mp4", video, seconds)
                for tree in trees:
                    wall, cores, memory = measure(tree, video, weights, folder / "out", options.options.split())
                    print(
                        f"{tree.name:>12} {seconds:5g} s {wall:6.1f} s {seconds * options.fps / wall:9.1f} "
                        f"{cores:8.1f} s {memory:9.0f} MB",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
