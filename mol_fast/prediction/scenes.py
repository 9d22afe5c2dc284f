"""What the annotated video shows on each frame: a pair of a window, or a moment, or the face that is followed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mol_fast.prediction.result import Prediction
from mol_fast.prediction.windows import Window
from mol_fast.vision.align import Matrix
from mol_fast.vision.sizes import PAIRS, WINDOW
from mol_fast.vision.tracking import NO_FACE, Track
from mol_fast.vision.video import FrameSource

NO_MOMENT = "no moment"


@dataclass(frozen=True)
class Shown:
    """What is drawn on a frame. What is None is left out.

    Attributes:
        probabilities: (K,), of the window.
        landmarks: (68, 2) in pixels of the frame.
        flow: (2, 128, 128) in pixels of the crop.
        matrix: (2, 3) from the frame to the crop.
        remark: shown instead of probabilities.
    """

    probabilities: npt.NDArray[np.float32] | None = None
    landmarks: npt.NDArray[np.float32] | None = None
    flow: npt.NDArray[np.float32] | None = None
    matrix: Matrix | None = None
    remark: str = ""


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

    def scene(index: int) -> Scene:
        number, pair = pairs[index].tolist()
        window = windows[number]
        shown = pair_of(place[window], pair) if window in place else Shown(remark=reasons[window])
        return Scene(f"{_caption(prediction, source, index)}   window {number + 1} of {len(windows)}", shown)

    return scene


def moment_scenes(prediction: Prediction, track: Track, source: FrameSource) -> Scenes:
    """Return scenes that show the windows of moments, and between moments the landmarks that were followed.

    Args:
        prediction: prediction with moments.
        track: the person in all frames of the source.
        source: the frames.
    """
    moments = prediction.moments or ()
    pair_of = _pairs(prediction)
    at: dict[int, int] = {}
    for number, moment in enumerate(moments):
        at.update(dict.fromkeys(range(moment.onset - prediction.first, moment.offset - prediction.first + 1), number))

    def scene(index: int) -> Scene:
        caption = _caption(prediction, source, index)
        if index in at:
            moment, k = moments[at[index]], prediction.of_moments[at[index]]
            caption += f"   moment {at[index] + 1}: {moment.kind}"
            if k is not None:
                pair = int(_pair_at(np.array(prediction.windows[k].window.frames), np.array(index)))
                return Scene(caption, pair_of(k, pair))
        face = track[index].face
        if face is None:
            return Scene(caption, Shown(remark=track[index].reason or NO_FACE))
        return Scene(caption, Shown(landmarks=face.landmarks, remark="skipped" if index in at else NO_MOMENT))

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
    """Return a function of the place of a window and a pair in it. Frames in order read the flow of a window once."""
    flow_of = lru_cache(1)(lambda k: None if prediction.flow is None else prediction.flow[k])

    def shown(k: int, pair: int) -> Shown:
        window, flow = prediction.windows[k], flow_of(k)
        landmarks = None if window.landmarks is None else window.landmarks[pair]
        return Shown(window.probabilities, landmarks, None if flow is None else flow[:, pair], window.matrix)

    return shown


def _caption(prediction: Prediction, source: FrameSource, index: int) -> str:
    clock = "" if source.times is None else f"   {source.times[index]:.2f} s"
    return f"frame {prediction.first + index}{clock}"
