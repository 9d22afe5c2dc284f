"""The moments of a video: when the face of the followed person moved. Each has a window, which is recognised."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.prediction.album import Album
from mol_fast.prediction.aligned import Skipped
from mol_fast.prediction.part import in_grey
from mol_fast.prediction.result import Flow, Prediction, Search, WindowPrediction
from mol_fast.prediction.windows import Window, is_far, seconds_of, told_spans
from mol_fast.spotting import GAP, LEAST_FPS, Moment, Spotter, is_slow
from mol_fast.utils.ahead import ahead
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import Matrix, steady_alignment, transform, warp
from mol_fast.vision.facs import predicted_units
from mol_fast.vision.frame_times import moment_frames
from mol_fast.vision.sizes import WINDOW
from mol_fast.vision.tracking import Track
from mol_fast.vision.video import FrameSource, Picture, Times

_AHEAD = 32  # frames that are decoded and searched while others are spotted; only aligned faces are kept
_SAMPLES = 0.75  # of an aligned face per pixel of the frame, along each side: as many moments are found as with 1
_REST = 0.5  # seconds after which the landmarks of a face that does not move are found again


def spot_moments(
    source: FrameSource, track: Track, album: Album, on_frame: Callable[[], object] = lambda: None
) -> list[Moment]:
    """Spot the moments of the person that `track` follows. Reads the source once, with a few frames in memory.

    Frames are numbered from 0. A cut, and a gap without the face, end a stretch; nothing is spotted across it.

    Args:
        source: the frames, with times.
        track: track of the person, without a frame yet.
        album: receives what a report shows of the video.
        on_frame: called after each frame.

    Raises:
        UserError: a frame cannot be read.
    """
    assert source.times is not None
    moments: list[Moment] = []
    spotter, last = Spotter(album.motion), 0
    for index, (shot, seen) in enumerate(ahead(_looks(source, source.times, track), _AHEAD)):
        time = float(source.times[index])
        told: list[Moment] = []
        if shot != last:
            told += spotter.finish()
            spotter, last = Spotter(album.motion), shot
        if seen is not None:
            album.add(index, time, *seen)
            told += spotter.add(seen.frame, seen.landmarks, time, index)
        album.keep(told)
        moments += told
        on_frame()
    told = spotter.finish()
    album.keep(told)
    return moments + told


class _Seen(NamedTuple):
    """The face of the person on a frame."""

    frame: Picture  # (144, 144), aligned
    landmarks: npt.NDArray[np.float64]  # (68, 2) in its pixels
    place: Matrix  # (2, 3), from the frame of the source to the aligned one


def _looks(source: FrameSource, times: Times, track: Track) -> Iterator[tuple[int, _Seen | None]]:
    """Yield for every frame the number of the shot, and the face if it shows anything new."""
    shot, last = 0, -np.inf
    landmarks: npt.NDArray[np.float32] | None = None
    place: Matrix | None = None
    for time, frame in zip(times.tolist(), in_grey(source), strict=True):
        sight = track.look(frame)
        if sight.shot != shot:
            shot, place = sight.shot, None
        seen = None
        if sight.face is not None and time > last:  # frames of the same time stamp show nothing new
            points = sight.face.landmarks.astype(np.float64)
            if place is None or sight.face.landmarks is not landmarks:  # they rest with the face
                landmarks, place = sight.face.landmarks, steady_alignment(points, place)
            seen, last = _Seen(warp(frame, place, samples=_SAMPLES), transform(points, place), place), time
        yield shot, seen


def rest_of(source: FrameSource) -> int:
    """Return for how many frames the finder need not look at a face that does not move, see `FaceTracker`."""
    return max(0, int(_REST / _step(source, 0.95) + 1e-6) - 1)


def _step(source: FrameSource, share: float) -> float:
    """Return the seconds within which this share of the frames is followed by the next; a few pauses do not count."""
    assert source.times is not None
    steps = np.diff(source.times)
    steps = steps[steps > 0]  # frames of the same time stamp show nothing new
    return float(np.quantile(steps, share)) if steps.size else np.inf


def moment_window(moment: Moment, source: FrameSource) -> Window:
    """Return the window of a moment: 8 frames from its onset to its offset, see `moment_frames`."""
    assert source.times is not None
    frames = moment_frames(source.times, moment.onset, moment.offset)
    return Window(tuple(frames), frames[0], (float(source.times[frames[0]]), float(source.times[frames[-1]])))


def check_seen(source: FrameSource, track: Track) -> None:
    """Raise UserError if the person is seen in fewer than 8 frames of a source, too few for a window."""
    track.check(source.name)
    if track.seen < WINDOW:
        raise UserError(
            f"the face of person {track.person} is seen in only {track.seen} of {source.count} frames of "
            f"{source.name}, at least {WINDOW} are needed; give a part that shows a face"
        )


def summarise_moments(
    moments: list[Moment],
    classes: tuple[str, ...],
    predictions: list[WindowPrediction],
    skipped: list[Skipped],
    flow: Sequence[Flow] | None,
    track: Track,
    source: FrameSource,
    first: int = 0,
) -> Prediction:
    """Combine the moments of a video and the predictions of their windows.

    Args:
        moments: the moments, in order of time.
        classes: names of the classes.
        predictions: predictions of windows from `moment_window`.
        skipped: the other windows of moments.
        flow: flow of each of `predictions`, None if the model has none.
        track: the person in all frames of the source.
        source: the frames.
        first: index in the whole source of frame 0 of `source`.
    """
    assert source.times is not None
    place = {item.window: k for k, item in enumerate(predictions)}
    of_moments = tuple(place.get(moment_window(moment, source)) for moment in moments)
    named = tuple(
        _recognised(moment, classes, None if k is None else predictions[k], first, track.person)
        for moment, k in zip(moments, of_moments, strict=True)
    )
    searched = Search(float(source.times[-1] - source.times[0]), source.count, track.seen)
    who = track.person, track.people
    return Prediction(classes, None, predictions, flow, skipped, source.fps, first, *who, named, of_moments, searched)


def too_slow(source: FrameSource) -> tuple[str, ...]:
    """Return a note about a video with too few frames per second for micro-expressions.

    Raises:
        UserError: they are too few for any movement.
    """
    step = _step(source, 0.5)
    if not is_slow(1 / step):
        return ()
    if step > GAP:
        raise UserError(
            f"{source.name} has {1 / step:.3g} frames per second, at least {1 / GAP:g} are needed to follow a "
            "movement: give --windows for the classes of all windows, or --fps if the rate is wrong"
        )
    return (
        f"{source.name} has {1 / step:.3g} frames per second, a micro-expression needs at least {LEAST_FPS:.0f}: "
        "only longer expressions are spotted",
    )


def notes_on_moments(windows: list[Window], spans: tuple[float, float, float] | None) -> tuple[str, ...]:
    """Return a note about the windows of moments that are far from those of the training, see `notes_on_spans`."""
    seen = seconds_of(windows)
    far = 0 if spans is None else sum(is_far(span, spans) for span in seen)
    if spans is None or not far:
        return ()
    those = "the moment is" if len(seen) == 1 else f"{far} of {len(seen)} moments {'is' if far == 1 else 'are'}"
    trained = f"what the model was trained on ({told_spans(spans)})"
    return (f"{those} faster or slower than {trained}: the class says little",)


def _recognised(
    moment: Moment, classes: tuple[str, ...], found: WindowPrediction | None, first: int, person: int
) -> Moment:
    """Return a moment with its class, person and sentence, and frames that count from the beginning of the source.

    Args:
        moment: the moment.
        classes: names of the classes.
        found: prediction of its window, None if that was skipped.
        first: index in the source of frame 0.
        person: number of the person.
    """
    label = probability = sentence = predicted = None
    if found is not None:
        best = int(found.probabilities.argmax())
        label, probability = classes[best], float(found.probabilities[best])
        predicted = None if found.units is None else predicted_units(found.units)
        if found.explanation is not None and found.face is not None and moment.motion is not None:
            from mol_fast.explain.units import describe, find_units

            units = find_units(moment.motion, transform(found.face.landmarks, found.matrix))
            sentence = describe(moment.regions, units)
    return replace(
        moment,
        onset=first + moment.onset,
        apex=first + moment.apex,
        offset=first + moment.offset,
        label=label,
        probability=probability,
        person=str(person),
        sentence=sentence,
        units=predicted,
    )
