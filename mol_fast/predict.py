"""The program that predicts micro-expression, flow and landmarks of a face in a video: `python -m mol_fast.predict`.

For frames in memory call `mol_fast.predict(frames, weights)`, which is `mol_fast.prediction.predictor.predict`.
After this module is imported, `mol_fast.predict` is the module, so the module can be called like the function.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mol_fast.cli import fail, progress, run_program
from mol_fast.prediction.album import Album
from mol_fast.prediction.aligned import Skipped, check_any
from mol_fast.prediction.moments import check_seen, moment_window, rest_of, spot_moments, summarise_moments, too_slow
from mol_fast.prediction.part import Part, first_frame, open_part, parse_time, sound_of, whole
from mol_fast.prediction.predictor import Predictor, predict, summarise
from mol_fast.prediction.result import CONFIDENCE, FlowFile, Prediction, WindowPrediction, to_json
from mol_fast.prediction.scenes import moment_scenes, window_scenes
from mol_fast.prediction.terminal import print_prediction
from mol_fast.prediction.windows import Window, is_one_clip, parse_length, plan_windows
from mol_fast.spotting import Moment, moments_csv
from mol_fast.utils.callable_module import call_module
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import InputsFailed, UserError
from mol_fast.utils.failures import explain
from mol_fast.utils.files import write_atomic
from mol_fast.utils.limits import MOST_BATCH
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import Finders, open_finder
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.sizes import MAX_CLIP, WINDOW
from mol_fast.vision.tracking import FaceTracker, Follower, Track
from mol_fast.vision.video import FrameSource, check_length
from mol_fast.vision.webcam import record

_UNKNOWN_SPAN = "0.5s"  # span of a window if the weights do not tell that of their training
_FAR_SPAN = 1.5  # a span that is longer or shorter than all of the training by more than this factor gets a warning
_REPLACED = ("moments.csv", "report.html", "annotated.mp4")  # if they are of an earlier prediction
_LEAST_MAX_FLOW = 0.1  # pixels of the crop; by default, shorter flow never gets full colour


call_module(sys.modules[__name__], predict)


@dataclass(frozen=True)
class Options:
    """Options of the program.

    Attributes:
        weights: Folder of a training run, or a weights file (.safetensors).
        out: Folder for prediction.json and the other files; created if missing. Default: NAME-prediction in the current
            folder. With several inputs, OUT is the folder that gets a folder NAME-prediction for each.
        seconds: How long a webcam is recorded, in seconds.
        start: Time where the part that is read begins: seconds (80.5), or minutes and seconds (1:20), from the
            beginning of the input. Default: its beginning.
        end: Time where the part ends. Default: the end of the input, as is any later time.
        clip: Treat the input as one annotated clip, from onset to offset of one expression. Always so for folders of
            images and prepared files, unless --window is given, and for videos not longer than a window.
        window: Length of a window in seconds (0.5s) or frames (100), at least 8 frames; the model reads 8 of them,
            evenly spaced in time. Default: the span of the windows in training, or 0.5s if the weights do not tell it.
        stride: Distance from one window to the next, in seconds (0.25s) or frames (50). Default: half a window.
        fps: Frames per second. Replaces the time stamps of a video file; folders and prepared files have none.
        aligned: The frames are already aligned face crops: search no faces. Always on for prepared files.
        person: Number of the person whose face is followed. People are numbered as they appear; those that appear
            together by size, the largest first.
        faces: Finder of faces: mediapipe, or dlib with its 68-point predictor (its weights are not for commercial
            use).
        min_score: Smallest score of a face. Default: 0.5 of 1 for mediapipe; 0.2 for dlib, where clear frontal faces
            have about 1 or more.
        max_flow: Flow length that is drawn in full colour, in pixels of the 128 x 128 crop. Default: the 99th
            percentile.
        windows: Predict all windows of a longer video, instead of the moments at which its face moves; so do --window
            and --stride.
        confidence: Least probability of a class; below it, the class is said to be uncertain.
        video: Write annotated.mp4.
        device: Device to run on: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
        batch_size: Number of windows in one batch. A smaller batch needs less memory.
    """

    weights: Path
    out: Path | None = None
    seconds: float = 10.0
    start: str | None = None
    end: str | None = None
    clip: bool = False
    window: str | None = None
    stride: str | None = None
    fps: float | None = None
    aligned: bool = False
    person: int = 1
    faces: Finders = "mediapipe"
    min_score: float | None = None
    max_flow: float | None = None
    windows: bool = False
    confidence: float = CONFIDENCE
    video: bool = True
    device: str = "auto"
    batch_size: int = 4


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # print no messages beside the one error
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)  # decoding, finding, spotting, drawing and encoding run side by side instead
    return run_program(run, argv, "predict", "faces")


def run(inputs: tuple[Path, ...], /, prediction: Options) -> None:
    """Predict micro-expression, optical flow and landmarks of a person in a video, or in several ones.

    One person is followed, by default the largest at the beginning. In a video longer than a window, spots the moments
    at which the face moves, recognises them, and prints them; a still face has none. Of a shorter video, or with
    --windows, prints the class probabilities of each window and of the clip (the mean over windows), and the mean flow
    length in pixels of the 128 x 128 crop; a window counts only if the face is there in all of its frames. Writes
    prediction.json, moments.csv, report.html and annotated.mp4. Weights that were trained without flow or landmarks
    (--tasks) predict only the other tasks. An input that cannot be used does not stop the others.

    Args:
        inputs: Video files, folders of images in the order of the numbers in their names, prepared .safetensors files,
            or the number of a webcam, such as 0, which is recorded first. Every input is predicted for itself.
        prediction: Options of the program.

    Raises:
        UserError: an option or an input cannot be used.
    """
    options = prediction
    _check_numbers(options)
    span = _span(options)
    folders = _folders(inputs, options.out)
    predictor = Predictor(options.weights, options.device, options.batch_size)
    finder = cache(lambda: open_finder(options.faces, options.min_score))
    if len(inputs) == 1:
        _run_one(inputs[0], folders[0], span, options, predictor, finder)
        return
    failed = []
    for path, out in zip(inputs, folders, strict=True):
        print(path, flush=True)
        try:
            _run_one(path, out, span, options, predictor, finder)
        except (UserError, OSError, MemoryError) as error:
            fail(str(error) if isinstance(error, UserError) else explain(error) or str(error))
            failed.append(str(path))
    if failed:
        kind = UserError if len(failed) == len(inputs) else InputsFailed
        raise kind(f"{len(failed)} of {len(inputs)} inputs failed, see above: {', '.join(failed)}")


def _run_one(
    path: Path,
    out: Path,
    span: tuple[float | None, float | None],
    options: Options,
    predictor: Predictor,
    finder: Callable[[], FaceFinder],
) -> None:
    """Predict one input, write its files into `out` and print its table."""
    device = _webcam(path)
    if device is not None:
        path = out / "webcam.mp4"
        with progress("second") as begin:
            record(device, options.seconds, path, begin(f"recording webcam {device}", int(options.seconds)))
    if any(path.resolve() == (out / name).resolve() for name in _REPLACED):
        raise UserError(f"{path} would be replaced by a file of its own prediction: give another --out")
    source = open_part(path, options.fps, *span)
    source.aligned = source.aligned or options.aligned
    check_length(source)
    first = first_frame(source)
    windows, note = _plan(source, options, predictor.spans)
    rest = rest_of(source) if windows is None else 0
    tracker: Follower | None = None if source.aligned else FaceTracker(finder(), options.person, rest)
    track: Track | None = None
    album: Album | None = None
    moments: list[Moment] = []
    if windows is None:
        assert tracker is not None
        assert source.times is not None
        tracker = track = Track(tracker)
        album = Album(float(source.times[0]), float(source.times[-1]))
        with progress("frame") as begin:
            moments = spot_moments(source, track, album, begin("spotting", source.count))
        check_seen(source, track)
        track.rewind()
        windows = sorted({moment_window(moment, source) for moment in moments})
        note += too_slow(source) + _compared(windows, predictor.spans)
    with _folder(out), FlowFile(out) as flow:
        predictions, skipped, fast = _predict(source, windows, predictor, tracker, flow)
        fields = flow if "flow" in predictor.tasks else None
        if track is None:
            if not predictions:
                check_any(source, skipped, tracker)
            about_clip = fields, tracker, source.fps, first, predictor.temperature
            result = summarise(predictor.classes, predictions, skipped, *about_clip)
            scenes = window_scenes(result, windows, source)
        else:
            result = summarise_moments(moments, predictor.classes, predictions, skipped, fields, track, source, first)
            scenes = moment_scenes(result, track, source)
        result = replace(result, temperature=predictor.temperature, confidence=options.confidence)
        note += _uncalibrated(result)
        part = {"first_frame": first, "last_frame": first + source.count - 1} if isinstance(source, Part) else None
        about = {
            "input": str(path),
            "weights": str(options.weights),
            "frames": whole(source).count,
            "part": part,
            "faces": None if source.aligned else options.faces,
        }
        for name in _REPLACED:
            (out / name).unlink(missing_ok=True)
        write_atomic(out / "prediction.json", to_json(result, about))
        if result.moments is not None:
            write_atomic(out / "moments.csv", moments_csv(result.moments))
        if album is not None:
            _write_report(out / "report.html", result, album, predictor, about, (*source.notes, *note))
        if options.video:
            from mol_fast.prediction.overlay import write_annotated

            max_flow = (options.max_flow or max(fast, _LEAST_MAX_FLOW)) if fields is not None else None
            sound = None if options.fps else sound_of(source)  # it would not fit to another rate
            with progress("frame") as begin:
                advance = begin("drawing", source.count)
                write_annotated(out / "annotated.mp4", source, scenes, result, max_flow, sound, advance)
    print_prediction(result, (*source.notes, *note), out)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make the folder of the results; it is removed if an error leaves it empty."""
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if made:
                path.rmdir()
        raise


def _webcam(path: Path) -> int | None:
    """Return the number of a webcam that is given instead of a file, or None."""
    return int(str(path)) if re.fullmatch(r"[0-9]{1,3}", str(path)) and not path.exists() else None


def _span(options: Options) -> tuple[float | None, float | None]:
    """Return --start and --end in seconds."""
    start = None if options.start is None else parse_time(options.start, "--start")
    end = None if options.end is None else parse_time(options.end, "--end")
    if end is not None and end <= (start or 0):
        raise UserError(f"--end is {options.end}, it must be after --start {options.start or 0}")
    return start, end


def _folders(inputs: tuple[Path, ...], out: Path | None) -> list[Path]:
    """Return the folder for the results of each input, all different."""
    if not inputs:
        raise UserError("no input is given, give a video file, a folder of images, or a prepared file")
    if len(inputs) == 1 and out is not None:
        return [out]
    owners: dict[Path, Path] = {}
    for path in inputs:
        name = path.resolve().stem if _webcam(path) is None else f"webcam-{path}"
        folder = (out or Path()) / f"{name}-prediction"
        if folder in owners:
            raise UserError(f"{owners[folder]} and {path} would both be written to {folder}, give them one at a time")
        owners[folder] = path
    return list(owners)


def _write_report(
    path: Path, result: Prediction, album: Album, predictor: Predictor, about: dict[str, Any], notes: tuple[str, ...]
) -> None:
    from mol_fast.report.moments import ShownMoment, write_moments_report

    shown = []
    for moment, place in zip(result.moments or (), result.of_moments, strict=True):
        values = None if place is None else result.windows[place].probabilities.tolist()
        named = None if values is None else dict(zip(result.classes, values, strict=True))
        shown.append(ShownMoment(moment, named, album.view(moment.onset - result.first), result.verdict_of(moment)))
    write_moments_report(
        path,
        name=Path(about["input"]).name,
        date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M}",
        shown=shown,
        motion=album.motion,
        weights=predictor.header,
        about=_told(result, about),
        notes=notes,
    )


def _told(result: Prediction, about: dict[str, Any]) -> dict[str, object]:
    """Return what the report tells about a prediction, beside the moments."""
    told: dict[str, object] = {"video": about["input"], "weights": about["weights"]}
    if about["part"] is not None:
        told["part"] = "frames {first_frame} to {last_frame}".format(**about["part"])
    if result.searched is not None:
        told["face seen"] = f"in {result.searched.seen} of {result.searched.frames} frames"
    told["person"] = f"{result.person} of {result.people}"
    told["finder of faces"] = about["faces"]
    return told | versions(("mol-fast", "torch", "opencv-python", "av"))


def _predict(
    source: FrameSource, windows: list[Window], predictor: Predictor, tracker: Follower | None, flow: FlowFile
) -> tuple[list[WindowPrediction], list[Skipped], float]:
    """Predict windows, with flow on disk.

    Returns:
        The predictions, the windows that were skipped, the largest 99th percentile of the flow of a window.
    """
    predictions: list[WindowPrediction] = []
    skipped: list[Skipped] = []
    fast = 0.0
    if not windows:
        return predictions, skipped, fast
    with progress("frame") as begin:
        advance = begin("predicting", source.count)
        for prediction, window_flow in predictor.run(source, windows, tracker, skipped, advance):
            predictions.append(prediction)
            if window_flow is not None:
                flow.append(window_flow)
                fast = max(fast, float(np.quantile(np.hypot(*window_flow), 0.99)))
    return predictions, skipped, fast


def _plan(
    source: FrameSource, options: Options, spans: tuple[float, float, float] | None
) -> tuple[list[Window] | None, tuple[str, ...]]:
    """Return the windows, and what should be known about their length. No windows: moments are to be spotted."""
    of_video = f"{spans[1]:.4g}s" if spans else _UNKNOWN_SPAN
    video = isinstance(whole(source), VideoFile) and source.times is not None
    timed = source.times is not None
    text = None if options.clip else options.window or (of_video if video else None)
    length = None if text is None else parse_length(text, timed, "--window", WINDOW)
    stride = None if options.stride is None else parse_length(options.stride, timed, "--stride", 1)
    clip = length is None or is_one_clip(source.count, length, source.times)
    if clip and source.count > MAX_CLIP:
        raise UserError(
            f"{source.name} has {source.count} frames, one clip may have at most {MAX_CLIP}: "
            + ("omit --clip" if options.clip else "give --window, for example --window 100")
        )
    if not (clip or source.aligned or options.windows or options.window or options.stride):
        return None, ()
    windows = plan_windows(source.count, length, stride, source.times)
    return windows, _compared(windows, spans)


def _uncalibrated(result: Prediction) -> tuple[str, ...]:
    """Return a note about probabilities without a temperature."""
    if result.temperature is not None or not result.windows:
        return ()
    return ("the probabilities are not calibrated: the weights tell no temperature, which a run of several folds fits",)


def _compared(windows: list[Window], spans: tuple[float, float, float] | None) -> tuple[str, ...]:
    """Return a note about the spans of windows beside those of the training, in seconds."""
    seen = [end - start for start, end in (window.seconds for window in windows if window.seconds)]
    if not seen or spans is None:
        return ()
    low, _, high = spans
    trained = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    span = float(np.median(seen))
    note = f"the windows span {span:.2f} s, those of the training {trained} s"
    far = not low / _FAR_SPAN <= span <= high * _FAR_SPAN
    return (note + "; the model has never seen motion of this speed, see --window" if far else note,)


def _check_numbers(options: Options) -> None:
    for name in ("seconds", "fps", "max_flow", "batch_size"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} is {value}, must be positive and finite")
    if not 0 <= options.confidence <= 1:
        raise UserError(f"--confidence is {options.confidence}, must be from 0 to 1")
    if options.clip and (options.window or options.stride or options.windows):
        raise UserError("--clip does not go with --window, --stride or --windows: omit one of them")
    if options.batch_size > MOST_BATCH:
        raise UserError(f"--batch-size is {options.batch_size}, must be at most {MOST_BATCH}")


if __name__ == "__main__":
    sys.exit(main())
