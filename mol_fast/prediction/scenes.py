"""What the annotated video shows on each frame: a pair of a window, or a moment, or the face that is followed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mol_fast.prediction.result import Prediction, WindowPrediction
from mol_fast.prediction.windows import Window
from mol_fast.vision.align import Matrix, alignment, centre_crop
from mol_fast.vision.heat import heat_of
from mol_fast.vision.sizes import CROP, FRAME, PAIRS, WINDOW
from mol_fast.vision.tracking import NO_FACE, Track
from mol_fast.vision.video import FrameSource

NO_MOMENT = "no moment"
FADE = 0.3
"""Seconds in which the heat of a moment comes and goes."""


@dataclass(frozen=True)
class Shown:
    """What is drawn on a frame. What is None is left out.

    Attributes:
        probabilities: (K,), of the window.
        landmarks: (68, 2) in pixels of the frame.
        flow: (2, 128, 128) in pixels of the crop.
        matrix: (2, 3) from the frame to the crop.
        remark: shown instead of probabilities.
        heat: (16, 16) cells of the crop, from 0 to 1: what moved the score of the class.
    """

    probabilities: npt.NDArray[np.float32] | None = None
    landmarks: npt.NDArray[np.float32] | None = None
    flow: npt.NDArray[np.float32] | None = None
    matrix: Matrix | None = None
    remark: str = ""
    heat: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Scene:
    """A frame of the annotated video: a line of text about it, and what is drawn."""

    caption: str
    shown: Shown


Scenes = Callable[[int], Scene]
"""Returns the scene of a frame of the source, by its index."""


def window_scenes(prediction: Prediction, windows: list[Window], source: FrameSource) -> Scenes:
    """Return scenes that show on each frame the pair of the window that `shown_pairs` chooses.

    Args:
        prediction: prediction for `windows`.
        windows: all windows, also those without a prediction.
        source: the frames.
    """
    place = {item.window: k for k, item in enumerate(prediction.windows)}
    reasons = {item.window: item.reason for item in prediction.skipped}
    pairs = shown_pairs(windows, source.count)
    pair_of = _pairs(prediction)
    of_clip = _heat_of_clip(prediction) if windows[0].anchor == windows[-1].anchor else None

    def scene(index: int) -> Scene:
        number, pair = pairs[index].tolist()
        window = windows[number]
        caption = f"{_caption(prediction, source, index)}   window {number + 1} of {len(windows)}"
        if window not in place:
            return Scene(caption, Shown(remark=reasons[window]))
        shown = pair_of(place[window], pair)
        caption += _doubt(prediction, prediction.windows[place[window]])
        return Scene(caption, shown if of_clip is None else replace(shown, heat=of_clip))

    return scene


def moment_scenes(prediction: Prediction, track: Track, source: FrameSource) -> Scenes:
    """Return scenes that show the windows of moments, and between moments the landmarks that were followed.

    What moved the score of a class fades within `FADE` seconds before and after its moment, and follows the face there.

    Args:
        prediction: prediction with moments.
        track: the person in all frames of the source.
        source: the frames.
    """
    moments = prediction.moments or ()
    pair_of = _pairs(prediction)
    onsets, offsets = np.array([(moment.onset_seconds, moment.offset_seconds) for moment in moments]).reshape(-1, 2).T
    at: dict[int, int] = {}
    for number, moment in enumerate(moments):
        at.update(dict.fromkeys(range(moment.onset - prediction.first, moment.offset - prediction.first + 1), number))

    def scene(index: int) -> Scene:
        caption = _caption(prediction, source, index)
        if index in at:
            moment, k = moments[at[index]], prediction.of_moments[at[index]]
            caption += f"   moment {at[index] + 1}: {moment.kind}"
            if k is not None:
                caption += _doubt(prediction, prediction.windows[k])
                pair = int(_pair_at(np.array(prediction.windows[k].window.frames), np.array(index)))
                return Scene(caption, pair_of(k, pair))
        face = track[index].face
        if face is None:
            return Scene(caption, Shown(remark=track[index].reason or NO_FACE))
        remark = "skipped" if index in at else NO_MOMENT
        shown = Shown(landmarks=face.landmarks, remark=remark)
        near = None if index in at else faded(index)
        if near is None:
            return Scene(caption, shown)
        crop = centre_crop(alignment(face.landmarks), FRAME, CROP)
        return Scene(caption, replace(shown, matrix=crop, heat=near))

    def faded(index: int) -> npt.NDArray[np.float32] | None:
        """Return the heat of the moment that is nearest to a frame outside of moments; None if it is far."""
        if not moments or source.times is None:
            return None
        gaps = np.maximum(onsets - source.times[index], source.times[index] - offsets)
        k = prediction.of_moments[int(gaps.argmin())]
        heat = None if k is None else _heat(prediction.windows[k])
        return None if heat is None or gaps.min() >= FADE else heat * np.float32(1 - gaps.min() / FADE)

    return scene


def shown_pairs(windows: list[Window], count: int) -> npt.NDArray[np.int64]:
    """Choose the window, and one of its 7 pairs, to show on each frame of a video.

    If the video is one clip, choose the window that contains the frame. Otherwise choose the window whose middle is
    nearest. The pair is the latest one that ends at or before the frame; the first pair if there is none.

    Args:
        windows: all windows of the video, from `plan_windows`.
        count: number of frames of the video.

    Returns:
        (count, 2): index into `windows`, index of the pair.
    """
    index = np.arange(count)
    frames = np.array([window.frames for window in windows])
    if windows[0].anchor == windows[-1].anchor:
        interval = len(windows)
        k = np.where(index < WINDOW * interval, index % interval, interval - 1)
    else:
        middles = (frames[:, 0] + frames[:, -1]) / 2
        k = np.searchsorted((middles[1:] + middles[:-1]) / 2, index)
    return np.stack([k, _pair_at(frames[k], index[:, None])], axis=1)


def _pair_at(frames: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the latest pair of a window's frames (..., 8) that ends at or before a frame, or 0."""
    return np.clip((frames <= index).sum(-1) - 2, 0, PAIRS - 1)


def _pairs(prediction: Prediction) -> Callable[[int, int], Shown]:
    """Return a function of the place of a window and a pair in it.

    Frames in order read the flow of a window once, and get the same object as long as they show the same pair.
    """
    flow_of = lru_cache(1)(lambda k: None if prediction.flow is None else prediction.flow[k])

    @lru_cache(1)
    def shown(k: int, pair: int) -> Shown:
        window, flow = prediction.windows[k], flow_of(k)
        landmarks = None if window.landmarks is None else window.landmarks[pair]
        shown = Shown(window.probabilities, landmarks, None if flow is None else flow[:, pair], window.matrix)
        return replace(shown, heat=_heat(window))

    return shown


def _doubt(prediction: Prediction, window: WindowPrediction) -> str:
    return ", uncertain" if prediction.is_uncertain(float(window.probabilities.max())) else ""


def _heat(window: WindowPrediction) -> npt.NDArray[np.float32] | None:
    return None if window.explanation is None else heat_of(window.explanation.attribution)


def _heat_of_clip(prediction: Prediction) -> npt.NDArray[np.float32] | None:
    """Return the mean over the windows of a clip that have its class, so that windows in turn do not flicker."""
    found = [item.explanation for item in prediction.windows if item.explanation is not None]
    maps = [item.attribution for item in found if item.label == prediction.label] or [i.attribution for i in found]
    return heat_of(np.mean(maps, axis=0)) if maps else None


def _caption(prediction: Prediction, source: FrameSource, index: int) -> str:
    clock = "" if source.times is None else f"   {source.times[index]:.2f} s"
    return f"frame {prediction.first + index}{clock}"
