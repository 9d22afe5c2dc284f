"""From one input to its prediction and its files: prediction.json, moments.csv, report.html and annotated.mp4."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mol_fast.prediction.album import Album
from mol_fast.prediction.aligned import Skipped, check_any, needed_frames
from mol_fast.prediction.moments import (
    check_seen,
    moment_window,
    notes_on_moments,
    rest_of,
    spot_moments,
    summarise_moments,
    too_slow,
)
from mol_fast.prediction.options import Options, span_of
from mol_fast.prediction.part import Part, first_frame, open_part, sound_of, whole
from mol_fast.prediction.result import FlowFile, Prediction, WindowPrediction, summarise, to_json
from mol_fast.prediction.scenes import moment_scenes, window_scenes
from mol_fast.prediction.windows import Window, is_one_clip, notes_on_spans, parse_length, plan_windows
from mol_fast.spotting import Moment, RegionMotion, ShownMoment, View, moments_csv
from mol_fast.utils.ahead import Begun
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.vision.align import chained, inverse
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.heat import heat_of, warp_cells
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.sizes import MAX_CLIP, WINDOW
from mol_fast.vision.tracking import FaceTracker, Follower, Track
from mol_fast.vision.video import FrameSource, check_length

if TYPE_CHECKING:
    from mol_fast.nn.header import WeightsHeader
    from mol_fast.prediction.predictor import Predictor

FILES = ("prediction.json", "moments.csv", "report.html", "annotated.mp4")
"""Names of the files that an analysis may write."""
_LONGEST_MOVEMENT = 4.0  # seconds; a folder of images with --fps that is longer is no clip of one expression
_UNKNOWN_SPAN = "0.5s"  # span of a window if the weights do not tell that of their training
_LEAST_MAX_FLOW = 0.1  # pixels of the crop; by default, shorter flow never gets full colour

Begin = Callable[[str, int], Callable[[], object]]
"""Begins a piece of work with its title and its number of steps; returns what is called after each step."""
Progress = Callable[[str], AbstractContextManager[Begin]]
"""Shows progress inside a context; takes the name of a step."""
WriteReport = Callable[..., None]
"""Writes the page about moments, as `mol_fast.report.moments.write_moments_report`."""


@dataclass(frozen=True)
class Analysis:
    """What is known about an input.

    Attributes:
        result: the prediction.
        notes: what should be known about it, one sentence each.
        motion: motion of all regions over time; None if no moments were looked for.
        shown: what a page shows of each moment.
    """

    result: Prediction
    notes: tuple[str, ...]
    motion: RegionMotion | None
    shown: tuple[ShownMoment, ...] = ()


def analyse(
    path: Path,
    out: Path,
    options: Options,
    header: "WeightsHeader",
    begun: Begun["Predictor"],
    finder: Callable[[], FaceFinder],
    progress: Progress,
    write_report: WriteReport,
    name: str | None = None,
) -> Analysis:
    """Predict one input, and write its files into `out`.

    While the moments of a video are spotted, the model may still be loaded.

    Args:
        path: a video file, a folder of images, or a prepared file.
        out: folder of the files, made if missing; those of an earlier prediction are replaced.
        options: options that `check_options` has passed.
        header: header of the weights.
        begun: the model with these weights.
        finder: returns the finder of faces, where one is needed.
        progress: shows progress.
        write_report: writes the page about moments.
        name: what the files call the input. Default: its path.

    Raises:
        UserError: the input cannot be used.
    """
    if any(path.resolve() == (out / name).resolve() for name in FILES[1:]):
        raise UserError(f"{path} would be replaced by a file of its own prediction: give another --out")
    source = open_part(path, options.fps, *span_of(options))
    source.aligned = source.aligned or options.aligned
    check_length(source)
    first = first_frame(source)
    windows, note = _plan(source, options, header.spans)
    rest = rest_of(source) if windows is None else 0
    tracker: Follower | None = None if source.aligned else FaceTracker(finder(), options.person, rest)
    track: Track | None = None
    album: Album | None = None
    moments: list[Moment] = []
    if windows is None:
        assert tracker is not None
        assert source.times is not None
        track = Track(tracker)
        note += too_slow(source)
        album = Album(float(source.times[0]), float(source.times[-1]))
        with progress("frame") as begin:
            advance = begin("spotting", source.count)

            def on_frame() -> None:
                begun.check()
                advance()

            moments = spot_moments(source, track, album, on_frame)
        check_seen(source, track)
        windows = sorted({moment_window(moment, source) for moment in moments})
        note += notes_on_moments(windows, header.spans)
    predictor = begun()
    with _folder(out), FlowFile(out) as flow:
        predictions, skipped, fast = _predict(source, windows, predictor, track or tracker, flow, progress)
        fields = flow if "flow" in predictor.tasks else None
        if track is None:
            if not predictions:
                check_any(source, skipped, tracker)
            about_clip = fields, tracker, source.fps, first, predictor.temperature
            result = summarise(predictor.classes, predictions, skipped, *about_clip)
        else:
            result = summarise_moments(moments, predictor.classes, predictions, skipped, fields, track, source, first)
        result = replace(result, temperature=predictor.temperature, confidence=options.confidence)
        scenes = window_scenes(result, windows, source) if track is None else moment_scenes(result, track, source)
        note += _uncalibrated(result)
        part = {"first_frame": first, "last_frame": first + source.count - 1} if isinstance(source, Part) else None
        about = {
            "input": name or str(path),
            "weights": str(options.weights),
            "frames": whole(source).count,
            "part": part,
            "faces": None if source.aligned else options.faces,
        }
        for name in FILES[1:]:
            (out / name).unlink(missing_ok=True)
        write_atomic(out / "prediction.json", to_json(result, about))
        if result.moments is not None:
            write_atomic(out / "moments.csv", moments_csv(result.moments))
        shown = () if album is None else _shown(result, album)
        if album is not None:
            told = _told(result, shown, album, header, about, (*source.notes, *note))
            write_report(out / "report.html", **told)
        if options.video:
            from mol_fast.prediction.overlay import write_annotated

            heat = options.overlay == "attribution"
            max_flow = (options.max_flow or max(fast, _LEAST_MAX_FLOW)) if fields is not None else None
            sound = None if options.fps else sound_of(source)  # it would not fit to another rate
            with progress("frame") as begin:
                advance = begin("drawing", source.count)
                write_annotated(out / "annotated.mp4", source, scenes, result, max_flow, heat, sound, advance)
    return Analysis(result, (*source.notes, *note), None if album is None else album.motion, shown)


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


def _told(
    result: Prediction,
    shown: tuple[ShownMoment, ...],
    album: Album,
    header: "WeightsHeader",
    about: dict[str, Any],
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """Return what the report tells: the arguments of `WriteReport`."""
    return {
        "name": Path(about["input"]).name,
        "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M}",
        "shown": shown,
        "motion": album.motion,
        "weights": header,
        "about": _about(result, about),
        "notes": notes,
    }


def _shown(result: Prediction, album: Album) -> tuple[ShownMoment, ...]:
    """Return what a page shows of each moment."""
    moments = zip(result.moments or (), result.of_moments, strict=True)
    return tuple(_shown_one(result, moment, k, album.view(moment.onset - result.first)) for moment, k in moments)


def _shown_one(result: Prediction, moment: Moment, place: int | None, view: View | None) -> ShownMoment:
    """Return what a page shows of a moment, whose window has this place, if it was not skipped."""
    verdict = result.verdict_of(moment)
    if place is None:
        return ShownMoment(moment, None, view, verdict)
    window = result.windows[place]
    named = dict(zip(result.classes, window.probabilities.tolist(), strict=True))
    uncertain = result.is_uncertain(float(window.probabilities.max()))
    if view is None or window.explanation is None:
        return ShownMoment(moment, named, view, verdict, uncertain)
    to_view = chained(inverse(window.matrix), view.place)
    heat = warp_cells(heat_of(window.explanation.attribution), to_view, view.apex.shape[::-1])
    return ShownMoment(moment, named, view, verdict, uncertain, heat, window.explanation.shares or {})


def _about(result: Prediction, about: dict[str, Any]) -> dict[str, object]:
    """Return the table of the report about a prediction."""
    told: dict[str, object] = {"video": about["input"], "weights": about["weights"]}
    if about["part"] is not None:
        told["part"] = "frames {first_frame} to {last_frame}".format(**about["part"])
    if result.searched is not None:
        told["face seen"] = f"in {result.searched.seen} of {result.searched.frames} frames"
    told["person"] = f"{result.person} of {result.people}"
    told["finder of faces"] = about["faces"]
    if any(window.explanation is not None for window in result.windows):
        from mol_fast.explain import METHOD

        told["attribution"] = METHOD
    return told | versions(("mol-fast", "torch", "opencv-python", "av"))


def _predict(
    source: FrameSource,
    windows: list[Window],
    predictor: "Predictor",
    tracker: Follower | Track | None,
    flow: FlowFile,
    progress: Progress,
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
        advance = begin("predicting", len(needed_frames(source, windows, tracker)))
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
    timed = source.times is not None
    video = source.times is not None and (
        isinstance(whole(source), VideoFile)
        or (not source.aligned and source.times[-1] - source.times[0] > _LONGEST_MOVEMENT)
    )
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
    return windows, notes_on_spans(windows, spans)


def _uncalibrated(result: Prediction) -> tuple[str, ...]:
    """Return a note about probabilities without a temperature."""
    if result.temperature is not None or not result.windows:
        return ()
    return ("the probabilities are not calibrated: the weights tell no temperature, which a run of several folds fits",)
