"""Measure speed and peak memory of `prepare`, by number of videos: python benchmarks/prepare_release.py 50 200

Memory must not grow with the number of videos. Each size runs in its own single process. The videos have 9 frames of
176 x 176 pixels, so real releases take longer per video.
"""

import contextlib
import io
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from harness.fake_releases import Fake, write_casme2

from mol_fast.data import PreparedSet
from mol_fast.prepare import main


def peak_memory() -> float:
    """Return the peak resident memory of this process in MiB. `ru_maxrss` would count that of its parent, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(root: Path, out: Path) -> tuple[float, float]:
    """Prepare the release in `root`, and return seconds and peak resident memory of this process in MiB."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(["casme2", "--root", str(root), "--out", str(out), "--workers", "1", "--device", "cpu"])
    if code:
        raise SystemExit(code)
    return time.perf_counter() - started, peak_memory()


def report(counts: list[int]) -> None:
    """Print a row per size; exit with an error if videos are missing from the result."""
    print("videos  seconds  videos/s  flow pairs/s  peak MiB")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            root, out = Path(folder, "release"), Path(folder, "prepared")
            write_casme2(root, [Fake(index % 26 + 1, f"EP{index:04d}", "others") for index in range(count)])
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, peak = pool.apply(measure, (root, out))
            videos = PreparedSet.open(out).videos
            if len(videos) != count:
                raise SystemExit(f"{len(videos)} of {count} videos were prepared")
            pairs = sum(7 * video.interval for video in videos)
            print(
                f"{count:6}  {seconds:7.1f}  {count / seconds:8.2f}  {pairs / seconds:12.1f}  {peak:8.0f}", flush=True
            )


if __name__ == "__main__":
    report([int(text) for text in sys.argv[1:]] or [50, 200])
