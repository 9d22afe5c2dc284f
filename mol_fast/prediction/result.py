"""The prediction of a clip or video, in memory and as JSON."""

import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt

from mol_fast.prediction.aligned import Skipped
from mol_fast.prediction.windows import Window
from mol_fast.spotting import Moment, moment_row
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import CONFIDENCE
from mol_fast.vision.align import Matrix
from mol_fast.vision.faces import Face
from mol_fast.vision.facs import UNITS
from mol_fast.vision.sizes import CROP, PAIRS
from mol_fast.vision.tracking import Follower

if TYPE_CHECKING:
    from pandas import DataFrame

    from mol_fast.explain import Explanation

FORMAT = 2
FLOW_SHAPE = (2, PAIRS, CROP, CROP)
_UNIT_NAMES = tuple(f"AU{unit}" for unit in UNITS)

Flow = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WindowPrediction:
    """The prediction of one window: 8 frames, hence 7 pairs of consecutive frames.

    Landmarks and flow are None if the weights were trained without them (`--tasks`).
    """

    window: Window
    probabilities: npt.NDArray[np.float32]  # (K,)
    landmarks: npt.NDArray[np.float32] | None  # (7, 68, 2), of the second frame of each pair, in pixels of the source
    mean_flow: float | None  # mean length of the flow, in pixels of the crop
    matrix: Matrix  # (2, 3), from frames of the source to the crop of 128 pixels
    face: Face | None  # face that aligned the window, None if the source was already aligned
    anchor: int  # frame of that face
    remark: str | None = None  # why the prediction says nothing, see `remark`
    explanation: "Explanation | None" = None  # what moved the score of its class, and the face; None if not asked for
    units: npt.NDArray[np.float32] | None = None  # (12,), probabilities of action units; None without this task

    def values(self) -> npt.NDArray[np.float32]:
        """Return the probabilities of classes, then those of action units, if there are any."""
        return self.probabilities if self.units is None else np.concatenate([self.probabilities, self.units])


class Search(NamedTuple):
    """What was searched for moments."""

    seconds: float
    frames: int
    seen: int  # frames that show the person's face


@dataclass(frozen=True)
class Prediction:
    """The prediction of a clip or video, or of a part of it. Flow is None if the weights were trained without it.

    Windows count frames from the first one that was read, which is frame `first` of the source. If moments
    were spotted, only they have windows, from onset to offset.
    """

    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float32] | None  # (K,), mean over windows, calibrated; None of a video with moments
    windows: list[WindowPrediction]
    flow: Sequence[Flow] | None  # (2, 7, 128, 128) for each of `windows`, one field per pair, in pixels of the crop
    skipped: list[Skipped]  # the other windows, with reasons
    fps: float | None = None  # mean frames per second, None if unknown
    first: int = 0
    person: int | None = None  # number of the person that was followed, None if the source was already aligned
    people: int | None = None  # number of people that were seen
    moments: tuple[Moment, ...] | None = None  # when the face moved; None if this was not asked
    of_moments: tuple[int | None, ...] = ()  # for each moment, the place of its window in `windows`; None if skipped
    searched: Search | None = None  # for moments; None if this was not asked
    temperature: float | None = None  # that calibrates all probabilities; None if the weights tell none
    confidence: float = CONFIDENCE  # a class with a smaller probability is uncertain

    @property
    def label(self) -> str | None:
        """The most probable class of the clip; None of a video with moments."""
        return None if self.probabilities is None else self.classes[int(self.probabilities.argmax())]

    @property
    def units(self) -> npt.NDArray[np.float32] | None:
        """Probability of each action unit in the clip (12,), the mean over windows; None without this task.

        The units are those of `mol_fast.vision.facs.UNITS`. None of a video with moments, too: its windows have them.
        """
        found = [item.units for item in self.windows if item.units is not None]
        return None if self.probabilities is None or not found else np.asarray(np.mean(found, axis=0))

    def without(self) -> str | None:
        """Say which tasks the weights were trained without; None if none is missing."""
        parts = [("flow", self.flow), *(("landmarks", item.landmarks) for item in self.windows[:1])]
        missing = [name for name, part in parts if part is None]
        return f"the weights were trained without {' and '.join(missing)} (--tasks)" if missing else None

    def is_uncertain(self, probability: float) -> bool:
        """Return whether the most probable class, with this probability, is uncertain."""
        return probability < self.confidence

    def verdict(self, label: str, probability: float) -> str:
        """Say a class with its probability, or that it is uncertain: "positive 0.82", "uncertain (positive 0.41)"."""
        text = f"{label} {probability:.2f}"
        return f"uncertain ({text})" if self.is_uncertain(probability) else text

    def verdict_of(self, moment: Moment) -> str:
        """Say the class of a moment; "skipped" if its window was."""
        if moment.label is None or moment.probability is None:
            return "skipped"
        return self.verdict(moment.label, moment.probability)

    def frames(self, window: Window) -> tuple[int, ...]:
        """Return the frames of a window, as indices in the whole source."""
        return tuple(self.first + index for index in window.frames)

    def to_dataframe(self) -> "DataFrame":
        """Return a data frame of pandas with one row per window, in the order of their first frames.

        Columns: `start` and `end` (times of the first and the last frame in seconds, NaN if unknown),
        `first_frame` and `last_frame` (indices in the source), `class`, `p_CLASS` for each class, `AU1` to `AU17`
        (probability of each action unit, only of weights that predict them), and `remark` (why the window says
        nothing). A window that was skipped has neither class nor probabilities, and a remark.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise UserError("to_dataframe needs pandas: pip install 'mol-fast[train]'") from error
        units = _UNIT_NAMES if any(item.units is not None for item in self.windows) else ()
        nothing = np.full(len(self.classes) + len(units), np.nan)
        rows = [
            *((item.window, self.classes[int(item.probabilities.argmax())], item.values(), item.remark)
              for item in self.windows),
            *((item.window, None, nothing, item.reason) for item in self.skipped),
        ]  # fmt: skip
        table = []
        for window, label, values, why in sorted(rows, key=lambda row: row[0]):
            start, end = window.seconds or (np.nan, np.nan)
            frames = self.frames(window)
            table.append((start, end, frames[0], frames[-1], label, *values.astype(float), why))
        named = (*(f"p_{name}" for name in self.classes), *units)
        return DataFrame(table, columns=["start", "end", "first_frame", "last_frame", "class", *named, "remark"])


def summarise(
    classes: tuple[str, ...],
    predictions: list[WindowPrediction],
    skipped: list[Skipped],
    flow: Sequence[Flow] | None,
    tracker: Follower | None,
    fps: float | None,
    first: int = 0,
    temperature: float | None = None,
) -> Prediction:
    """Combine `predictions` of windows into the prediction of a clip.

    Args:
        classes: names of the classes.
        predictions: predictions of windows, at least one.
        skipped: the other windows.
        flow: flow of each of `predictions`, None if the model has none.
        tracker: follower of the person; None if the source was already aligned.
        fps: mean frames per second of the source, None if unknown.
        first: index in the source of frame 0 of the windows.
        temperature: temperature that calibrates the probabilities; None if the weights tell none.
    """
    mean = _mean([prediction.probabilities for prediction in predictions], temperature)
    person, people = (None, None) if tracker is None else (tracker.person, tracker.people)
    return Prediction(classes, mean, predictions, flow, skipped, fps, first, person, people, temperature=temperature)


def remark(frames: npt.NDArray[np.uint8]) -> str | None:
    """Return what should be known about frames (8, 128, 128), as the model reads them; None if there is nothing."""
    return "all frames are the same, nothing moves" if (frames == frames[0]).all() else None


class FlowFile(Sequence[Flow]):
    """Flow of many windows on disk, as float16, in a temporary file that is deleted when closed.

    Args:
        folder: folder of the file; it needs 460 kB per window.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._count = 0

    def append(self, flow: Flow) -> None:
        """Add the flow (2, 7, 128, 128) of a window."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(flow.astype(np.float16).tobytes())
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Flow: ...
    @overload
    def __getitem__(self, index: slice) -> list[Flow]: ...
    def __getitem__(self, index: int | slice) -> Flow | list[Flow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"window {index} is out of range, there are {self._count}")
        size = 2 * int(np.prod(FLOW_SHAPE))
        self._file.seek(index % self._count * size)
        return np.frombuffer(self._file.read(size), dtype=np.float16).reshape(FLOW_SHAPE).astype(np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def to_json(prediction: Prediction, about: dict[str, Any]) -> str:
    """Return a prediction as JSON text, with one window per line.

    Frames and times count from the beginning of the whole source. Landmarks (68 points for frames 2 to 8 of a window)
    and the box of the face (left, top, right, bottom) are in pixels of the source's frames: upright, with square
    pixels, as a player shows them. mean_flow is in pixels of the crop. Times are the time stamps of the frames in
    seconds, or null if the source has none. Landmarks and mean_flow are null if the weights were trained without them.
    temperature calibrates all probabilities; null if the weights tell none. A class is uncertain if its probability is
    below `confidence`. action_units are probabilities, which are not calibrated; null if the weights were trained
    without units. A remark says why a window shows nothing, or is null. An explanation has the values of
    `Explanation.summary`, or is null if it was not asked for; its sentence comes from the flow that the model predicts,
    that of a moment from the motion that was measured.

    Of a video with moments the clip is null, and the windows are those of the moments. Moments have the columns of
    moments.csv, `uncertain`, and `window`, the place of their window among the windows, from 0; null if it was skipped.

    Args:
        prediction: prediction of a clip or video.
        about: plain values to put first, such as the origin of the frames.
    """
    mean = prediction.probabilities
    clip = None if mean is None else _clip(prediction, mean)
    head = {
        "format": FORMAT,
        **about,
        "fps": prediction.fps,
        "versions": {"python": platform.python_version(), **versions()},
        "classes": list(prediction.classes),
        "clip": clip,
        "temperature": prediction.temperature,
        "confidence": prediction.confidence,
        "person": prediction.person,
        "people": prediction.people,
        "searched": None if prediction.searched is None else _searched(prediction.searched),
        "moments": None if prediction.moments is None else _moments(prediction, prediction.moments),
        "skipped": [{"reason": item.reason, **_span(prediction, item.window)} for item in prediction.skipped],
    }
    windows = (_window(prediction, window) for window in prediction.windows)  # one at a time: their lists are large
    lines = ",\n".join("  " + json.dumps(window, allow_nan=False) for window in windows)
    return json.dumps(head, indent=1, allow_nan=False)[:-2] + f',\n "windows": [\n{lines}\n ]\n}}\n'


def _mean(probabilities: list[npt.NDArray[np.float32]], temperature: float | None) -> npt.NDArray[np.float32]:
    """Return the mean of probabilities (K,), which have this temperature already.

    A run fits its temperature to means of probabilities without one, so it is taken away before the mean.
    """
    if temperature is None:
        return np.asarray(np.mean(probabilities, axis=0))
    from mol_fast.metrics import temper

    return temper(temper(probabilities, 1 / temperature).mean(0), temperature).astype(np.float32)


def _clip(prediction: Prediction, mean: npt.NDArray[np.float32]) -> dict[str, Any]:
    uncertain = prediction.is_uncertain(float(mean.max()))
    named = _named(prediction.classes, mean)
    units = _named_units(prediction.units)
    return {"class": prediction.label, "uncertain": uncertain, "probabilities": named, "action_units": units}


def _moments(prediction: Prediction, moments: tuple[Moment, ...]) -> list[dict[str, Any]]:
    rows = []
    for moment, place in zip(moments, prediction.of_moments, strict=True):
        uncertain = None if moment.probability is None else prediction.is_uncertain(moment.probability)
        rows.append({**moment_row(moment), "uncertain": uncertain, "window": place})
    return rows


def _searched(search: Search) -> dict[str, Any]:
    return {"seconds": round(search.seconds, 4), "frames": search.frames, "frames_with_face": search.seen}


def _window(whole: Prediction, prediction: WindowPrediction) -> dict[str, Any]:
    mean_flow, landmarks = prediction.mean_flow, prediction.landmarks
    face, anchor = prediction.face, whole.first + prediction.anchor
    return {
        **_span(whole, prediction.window),
        "class": whole.classes[int(prediction.probabilities.argmax())],
        "uncertain": whole.is_uncertain(float(prediction.probabilities.max())),
        "probabilities": _named(whole.classes, prediction.probabilities),
        "action_units": _named_units(prediction.units),
        "remark": prediction.remark,
        "explanation": None if prediction.explanation is None else prediction.explanation.summary(),
        "mean_flow": None if mean_flow is None else round(mean_flow, 4),
        "face": None if face is None else _face(face, anchor),
        "landmarks": None if landmarks is None else np.round(landmarks.astype(float), 2).tolist(),
    }


def _span(prediction: Prediction, window: Window) -> dict[str, Any]:
    frames = prediction.frames(window)
    start, end = window.seconds or (None, None)
    return {
        "start": frames[0],
        "end": frames[-1],
        "frames": list(frames),
        "start_seconds": None if start is None else round(start, 4),
        "end_seconds": None if end is None else round(end, 4),
    }


def _face(face: Face, frame: int) -> dict[str, Any]:
    box = [round(side, 1) for side in face.box]
    return {"frame": frame, "box": box, "score": round(face.score, 3), "faces": face.found}


def _named_units(probabilities: npt.NDArray[np.float32] | None) -> dict[str, float] | None:
    return None if probabilities is None else _named(_UNIT_NAMES, probabilities)


def _named(classes: tuple[str, ...], probabilities: npt.NDArray[np.float32]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(classes, probabilities, strict=True)}
