"""Embedded long videos: seconds to minutes of a face with micro- and macro-expressions at exact times.

They test how moments are spotted without licensed data. They are synthetic: a method that works on them must be
expected to fall far on real videos.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mol_fast.data.embedded import distractions
from mol_fast.data.embedded.action_units import BLINK, EMOTIONS
from mol_fast.data.embedded.distractions import ANGLE, CHANNELS, FIELDS, GAIN, SCALE, TILT, X, Y
from mol_fast.data.embedded.geometry import pixel_grid, similarity
from mol_fast.data.embedded.motion import Motion
from mol_fast.data.embedded.rendering import STEEPEST, MovingFace, render_frames
from mol_fast.data.embedded.subjects import Subject, make_subject
from mol_fast.data.embedded.timeline import Array, Pulse, Timeline
from mol_fast.utils.intervals import LONGEST_MICRO, Interval, Kind
from mol_fast.vision.sizes import FRAME

Scene = Literal["still", "neutral", "speech", "expressions"]
_CHUNK = 32  # frames that are rendered together
_MARGIN = 16  # pixels around the frame that motion may move into it
_FIRST = 1.5  # seconds without an expression at both ends


class LongChunk(NamedTuple):
    """Consecutive frames of a long video.

    Attributes:
        first: number of the first frame.
        times: float64 (n,), in seconds.
        frames: uint8 (n, 144, 144), grey, aligned.
        landmarks: float32 (n, 68, 2), (x, y) in pixels.
    """

    first: int
    times: npt.NDArray[np.float64]
    frames: Tensor
    landmarks: Tensor


@dataclass(frozen=True, eq=False)
class LongVideo:
    """A long video that is rendered while it is read. Memory does not grow with its length.

    Attributes:
        name: subject, scene and seed.
        subject: the neutral face.
        fps: frames per second.
        frames: number of frames; frame k is at k / fps seconds.
        intervals: micro- and macro-expressions in order of time, with apex and class.
        noise: standard deviation of the sensor noise, in grey levels.
        timeline: everything that moves, see `distractions`.
        seed: seed of the noise.
    """

    name: str
    subject: Subject
    fps: float
    frames: int
    intervals: tuple[Interval, ...]
    noise: float
    timeline: Timeline
    seed: tuple[int, ...]

    def chunks(self) -> Iterator[LongChunk]:
        """Render the video, 32 frames at a time."""
        grid = pixel_grid(FRAME, FRAME).float()
        for first in range(0, self.frames, _CHUNK):
            times = np.arange(first, min(first + _CHUNK, self.frames)) / self.fps
            motion, face = self._moving_face(times)
            rng = np.random.default_rng([*self.seed, first])
            frames = render_frames(rng, self.subject, motion, face.inverse(grid), FRAME)
            yield LongChunk(first, times, frames, self._landmarks(face, len(times)))

    def landmarks(self, first: int, last: int) -> Tensor:
        """Return the exact landmarks of the frames from `first` to before `last`, float32 (last - first, 68, 2)."""
        return self._landmarks(self._moving_face(np.arange(first, last) / self.fps)[1], last - first)

    def flow(self, first: int, second: int) -> Tensor:
        """Return the exact flow from one frame to another, float32 (2, 144, 144), in pixels.

        Raises:
            ValueError: the video has no such frame.
        """
        if not (0 <= first < self.frames and 0 <= second < self.frames):
            raise ValueError(f"frames {first} and {second} must be from 0 to {self.frames - 1}")
        grid = pixel_grid(FRAME, FRAME).float()
        here, there = (self._moving_face(np.array([frame / self.fps]))[1] for frame in (first, second))
        return (there.forward(here.inverse(grid)) - grid)[0].T.reshape(2, FRAME, FRAME)

    def _landmarks(self, face: MovingFace, count: int) -> Tensor:
        return face.forward(self.subject.landmarks.expand(count, -1, -1))

    def _moving_face(self, times: Array) -> tuple[Motion, MovingFace]:
        values = torch.from_numpy(self.timeline.at(times)).float()
        fields = self.subject.fields
        moved = values[:, :FIELDS].abs().amax(0) > 0  # most fields rest
        strength = values[:, :FIELDS][:, moved]
        displacement = (strength @ fields[moved].flatten(1)).view(len(times), *fields.shape[1:])
        # frame by frame, so that no frame depends on the others of its chunk
        squares = (displacement.diff(dim=axis).square().sum(1).amax((1, 2)) for axis in (-1, -2))
        steepness = sum(squares, torch.zeros(len(times))).sqrt()
        displacement *= (STEEPEST / steepness.clamp(min=STEEPEST)).view(-1, 1, 1, 1)
        middle = torch.full((2,), (FRAME - 1) / 2)
        pose = similarity(values[:, SCALE].exp(), values[:, ANGLE], middle, middle + values[:, [X, Y]])
        motion = Motion(strength, pose, 1 + values[:, GAIN], values[:, TILT], self.noise)
        return motion, MovingFace(displacement, pose, self.subject.margin)


def generate_long(
    subject: int, scene: Scene = "expressions", seconds: float = 30.0, fps: float = 30.0, seed: int = 0
) -> LongVideo:
    """Make a long video. The same arguments give the same video; another frame rate samples the same motion.

    Args:
        subject: number of the subject, as in the embedded set with this seed.
        scene: "still", a photograph with noise and slow light; "neutral", also blinks, gaze, head and small unrest;
            "speech", also a moving jaw; "expressions", like "neutral", with a micro- or macro-expression about
            every 4 seconds and, in half of the videos, speech between them.
        seconds: length.
        fps: frames per second.
        seed: seed of everything random.

    Raises:
        UserError: scikit-image or matplotlib is missing, whose photographs are used.
        ValueError: an argument is out of range.
    """
    if scene not in get_args(Scene):
        raise ValueError(f"scene must be one of {', '.join(get_args(Scene))}, got {scene}")
    frames = round(seconds * fps) if 0 < seconds < np.inf and 0 < fps < np.inf else 0
    if frames < 1 or subject < 0:
        raise ValueError(f"subject, seconds and fps must make a video, got {subject}, {seconds} and {fps}")
    key = (seed, 3, subject, get_args(Scene).index(scene))
    rng = np.random.default_rng(key)
    timeline = Timeline(CHANNELS)
    noise = rng.uniform(0.8, 1.8)
    distractions.add_light(rng, timeline)
    if scene != "still":
        distractions.add_unrest(rng, timeline)
        distractions.add_head(rng, timeline, seconds)
        distractions.add_blinks(rng, timeline, seconds)
        distractions.add_gaze(rng, timeline, seconds)
    if scene == "speech":
        distractions.add_speech(rng, timeline, 0.5, seconds - 0.5)
    spans = _add_expressions(rng, timeline, seconds) if scene == "expressions" else []
    face = _living_subject(seed, subject)
    intervals = tuple(_interval(*span, fps, frames) for span in spans)
    return LongVideo(f"{face.name}_{scene}_{seed}", face, fps, frames, intervals, noise, timeline, key)


def _add_expressions(
    rng: np.random.Generator, timeline: Timeline, seconds: float
) -> list[tuple[float, float, float, Kind, str]]:
    """Add expressions to a timeline. Returns onset, apex and offset in seconds, kind and class of each."""
    spans: list[tuple[float, float, float, Kind, str]] = []
    time = _FIRST + rng.exponential(1)
    speech_left = rng.random() < 0.5
    while True:
        kind: Kind = "micro" if rng.random() < 0.6 else "macro"
        length = rng.uniform(0.2, LONGEST_MICRO) if kind == "micro" else rng.uniform(0.6, 3)
        if time + length > seconds - _FIRST:
            return spans
        emotion = str(rng.choice(list(EMOTIONS)))
        peak = rng.uniform(1.0, 2.5) if kind == "micro" else rng.uniform(1.5, 3)
        spans.append(_add_expression(rng, timeline, emotion, kind, peak, time, length))
        time += length + 1.5 + rng.exponential(2)
        if speech_left and rng.random() < 0.3 and time + 5 < seconds:
            length = rng.uniform(2, 4)
            distractions.add_speech(rng, timeline, time, time + length)
            time += length + 1.5
            speech_left = False


def _add_expression(
    rng: np.random.Generator, timeline: Timeline, emotion: str, kind: Kind, peak: float, onset: float, length: float
) -> tuple[float, float, float, Kind, str]:
    """Add one expression: its units rise and fall nearly together, and a small rest of them fades slowly."""
    rise, hold = length * rng.uniform(0.3, 0.5), length * rng.uniform(0.02, 0.2)
    fall, rest = length - rise - hold, rng.uniform(0, 0.12)
    combination = EMOTIONS[emotion][rng.integers(len(EMOTIONS[emotion]))]
    for place, (unit, share) in enumerate(combination.items()):
        late = 0.0 if place == 0 else rng.uniform(0, 0.1) * rise
        lean = np.clip(rng.normal(0, 0.12), -0.3, 0.3)
        for channel, side in zip(distractions.unit_channels(unit), (1 + lean, 1 - lean), strict=True):
            pixels = float(np.clip(share * peak * rng.uniform(0.8, 1.2) * side, 0, 3))
            course = onset + late, rise - late, hold
            timeline.pulses.append(Pulse(channel, (1 - rest) * pixels, *course, fall))
            timeline.pulses.append(Pulse(channel, rest * pixels, *course, fall + rng.uniform(1, 2)))
    if rng.random() < 0.2:  # a blink takes part
        for channel in distractions.unit_channels(BLINK):
            timeline.pulses.append(Pulse(channel, 2.0, onset + rng.uniform(0, length), 0.1, 0.03, 0.16))
    return onset, onset + rise + hold / 2, onset + length, kind, emotion


def _interval(onset: float, apex: float, offset: float, kind: Kind, emotion: str, fps: float, frames: int) -> Interval:
    first, top, last = (min(round(time * fps), frames - 1) for time in (onset, apex, offset))
    return Interval(first, last, kind, top, emotion)


@lru_cache(maxsize=4)
def _living_subject(seed: int, index: int) -> Subject:
    """Make a subject in single precision, with the fields of distractions and turns after its own."""
    subject = make_subject(seed, index, _MARGIN)
    side = subject.fields.shape[-1]
    grid = pixel_grid(side, side) - subject.margin
    fields = distractions.distraction_fields(subject.landmarks, grid).reshape(-1, 2, side, side)
    return replace(
        subject,
        landmarks=subject.landmarks.float(),
        texture=subject.texture.float(),
        fields=torch.cat([subject.fields, fields]).float(),
    )
