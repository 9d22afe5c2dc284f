"""The program that predicts micro-expression, flow and landmarks of a face in a video: `python -m mol_fast.predict`.

For frames in memory call `mol_fast.predict(frames, weights)`, which is `mol_fast.prediction.predictor.predict`.
After this module is imported, `mol_fast.predict` is the module, so the module can be called like the function.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mol_fast.cli import progress, run_program
from mol_fast.prediction.predictor import Predictor, check_length, predict, summarise
from mol_fast.prediction.result import FlowFile, Prediction, WindowPrediction, to_json
from mol_fast.prediction.sources import open_source
from mol_fast.prediction.windows import Seconds, Window, is_one_clip, plan_windows
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.limits import MOST_BATCH
from mol_fast.utils.terminal import make_console
from mol_fast.vision.faces import MIN_SCORE, FaceFinder
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.sizes import MAX_CLIP, WINDOW
from mol_fast.vision.video import FrameSource

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.table import Table
    from rich.text import Text

_TABLE_ROWS = 40
_LEAST_MAX_FLOW = 0.1  # pixels of the crop; by default, shorter flow never gets full colour


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Prediction:
        return predict(*args, **options)


sys.modules[__name__].__class__ = _CallableModule


@dataclass(frozen=True)
class Options:
    """Options of the program.

    Attributes:
        weights: Folder of a training run, or a weights file (.safetensors).
        out: Folder for prediction.json and annotated.mp4; created if missing. Default: NAME-prediction in the current
            folder.
        window: Length of a window in seconds (0.5s) or frames (100), at least 8 frames; the model reads 8 of them,
            evenly spaced in time. With "all", the whole input is one clip; so is an input not longer than a window.
            Default: 0.5s for video files with time stamps, else all.
        stride: Distance from one window to the next, in seconds (0.25s) or frames (50). Default: half a window.
        fps: Frames per second. Replaces the time stamps of a video file; folders and prepared files have none.
        aligned: The frames are already aligned face crops: search no faces. Always on for prepared files.
        min_score: Smallest detection score of a face. Clear frontal faces score about 1 or more, false detections
            about 0.
        max_flow: Flow length that is drawn in full colour, in pixels of the 128 x 128 crop. Default: the 99th
            percentile.
        video: Write annotated.mp4.
        device: Device to run on: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
        batch_size: Number of windows in one batch. A smaller batch needs less memory.
    """

    weights: Path
    out: Path | None = None
    window: str | None = None
    stride: str | None = None
    fps: float | None = None
    aligned: bool = False
    min_score: float = MIN_SCORE
    max_flow: float | None = None
    video: bool = True
    device: str = "auto"
    batch_size: int = 8


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # print no messages beside the one error
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    return run_program(run, argv, "predict", "faces")


def run(input: Path, /, prediction: Options) -> None:
    """Predict micro-expression, optical flow and landmarks of the largest face in a video.

    Prints the class probabilities of each window and of the clip (the mean over windows), and the mean flow length in
    pixels of the 128 x 128 crop. Writes prediction.json and annotated.mp4. Weights that were trained without flow or
    landmarks (--tasks) predict only the other tasks.

    Args:
        input: Video file, folder of images in the order of the numbers in their names, or prepared .safetensors file.
        prediction: Options of the program.

    Raises:
        UserError: the input or an option cannot be used.
    """
    options = prediction
    _check_numbers(options)
    source = open_source(input, options.fps)
    source.aligned = source.aligned or options.aligned
    check_length(source)
    windows = _plan(source, options)
    predictor = Predictor(options.weights, options.device, options.batch_size)
    finder = None if source.aligned else FaceFinder(options.min_score)
    out = options.out or Path(f"{input.resolve().stem}-prediction")
    out.mkdir(parents=True, exist_ok=True)
    with FlowFile(out) as flow:
        result, fast = _predict(source, windows, predictor, finder, flow)
        about = {"input": str(input), "weights": str(options.weights), "frames": source.count}
        write_atomic(out / "prediction.json", to_json(result, source.fps, about))
        if options.video:
            from mol_fast.prediction.overlay import write_annotated

            max_flow = options.max_flow or max(fast, _LEAST_MAX_FLOW)
            with progress() as begin:
                write_annotated(
                    out / "annotated.mp4", source, windows, result, max_flow, begin("drawing", source.count)
                )
    _print(result, source.notes, out)


def _predict(
    source: FrameSource, windows: list[Window], predictor: Predictor, finder: FaceFinder | None, flow: FlowFile
) -> tuple[Prediction, float]:
    """Predict all windows, with flow on disk. Also return the largest 99th percentile of flow of a window."""
    predictions: list[WindowPrediction] = []
    fast = 0.0
    with progress() as begin:
        advance = begin("predicting", source.count)
        for prediction, window_flow in predictor.run(source, windows, finder, advance):
            predictions.append(prediction)
            if window_flow is not None:
                flow.append(window_flow)
                fast = max(fast, float(np.quantile(np.hypot(*window_flow), 0.99)))
    return summarise(predictor.classes, windows, predictions, flow if "flow" in predictor.tasks else None), fast


def _plan(source: FrameSource, options: Options) -> list[Window]:
    default = "0.5s" if isinstance(source, VideoFile) and source.times is not None else "all"
    text = options.window or default
    timed = source.times is not None
    length = None if text == "all" else _length(text, timed, "--window", WINDOW)
    stride = None if options.stride is None else _length(options.stride, timed, "--stride", 1)
    if (length is None or is_one_clip(source.count, length, source.times)) and source.count > MAX_CLIP:
        raise UserError(
            f"{source.name} has {source.count} frames, one clip may have at most {MAX_CLIP}: "
            "give --window, for example --window 100"
        )
    return plan_windows(source.count, length, stride, source.times)


def _length(text: str, timed: bool, option: str, least: int) -> int | Seconds:
    """Parse "100" as a number of frames, at least `least`, or "0.5s" as seconds."""
    seconds = text.endswith("s")
    try:
        value = float(text[:-1]) if seconds else int(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise UserError(f"{option} is {text}, give seconds like 0.5s or frames like 100")
    if not seconds:
        if value < least:
            raise UserError(f"{option} is {text} frames, at least {least} are needed")
        return int(value)
    if not timed:
        raise UserError(f"{option} is {text}, but the times of the frames are unknown, give --fps as well")
    return Seconds(value)


def _check_numbers(options: Options) -> None:
    for name in ("fps", "max_flow", "batch_size"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} is {value}, must be positive and finite")
    if options.batch_size > MOST_BATCH:
        raise UserError(f"--batch-size is {options.batch_size}, must be at most {MOST_BATCH}")


def _print(result: Prediction, notes: tuple[str, ...], out: Path) -> None:
    console = make_console(width=None if sys.stdout.isatty() else 120)
    console.print(_table(result))
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    more = len(result.windows) - _TABLE_ROWS
    if more > 0:
        console.print(f"{more} more windows are in prediction.json")
    if result.skipped:
        starts = ", ".join(str(window.start) for window in result.skipped[:10])
        console.print(f"skipped {len(result.skipped)} windows without a face, from frame {starts}", end="")
        console.print(" ..." if len(result.skipped) > 10 else "")
    for text in dict.fromkeys(item.remark for item in result.windows if item.remark):
        empty = [str(item.window.start) for item in result.windows if item.remark == text]
        count = "1 window" if len(empty) == 1 else f"{len(empty)} windows"
        end = " ..." if len(empty) > 10 else ""
        console.print(f"{count}, from frame {', '.join(empty[:10])}{end}: {text}; ignore the probabilities")
    missing = [
        name for name, part in (("flow", result.flow), ("landmarks", result.windows[0].landmarks)) if part is None
    ]
    if missing:
        console.print(f"the weights were trained without {' and '.join(missing)} (--tasks)")
    console.print(f"written to {out}", highlight=False, soft_wrap=True)


def _table(result: Prediction) -> "Table":
    from rich.table import Table

    table = Table(show_footer=True)
    table.add_column("window", "clip", justify="right")
    table.add_column("frames", justify="right", no_wrap=True)
    if result.windows[0].window.seconds is not None:
        table.add_column("seconds", justify="right", no_wrap=True)
    for name, probability in zip(result.classes, result.probabilities, strict=True):
        table.add_column(name, _probability(probability, result.probabilities), justify="right", overflow="fold")
    flows = [item.mean_flow for item in result.windows if item.mean_flow is not None]
    if flows:
        table.add_column("flow (px)", f"{np.mean(flows):.3f}", justify="right")
    for number, item in enumerate(result.windows[:_TABLE_ROWS], start=1):
        start, end = item.window.start, item.window.end
        seconds = [] if item.window.seconds is None else ["{:.2f}-{:.2f}".format(*item.window.seconds)]
        values = [_probability(value, item.probabilities) for value in item.probabilities]
        flow = [] if item.mean_flow is None else [f"{item.mean_flow:.3f}"]
        table.add_row(str(number), f"{start}-{end}", *seconds, *values, *flow)
    return table


def _probability(value: np.floating, among: "npt.NDArray[np.float32]") -> "Text":
    from rich.text import Text

    return Text(f"{value:.2f}", style="bold" if value == among.max() else "")


if __name__ == "__main__":
    sys.exit(main())
