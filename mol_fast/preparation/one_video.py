"""Prepare one raw video: aligned frames, landmarks and flow."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from mol_fast.data.video_data import VideoData, value_problem
from mol_fast.preparation.frame_files import LEAST_PRESENT, named, widened_text
from mol_fast.preparation.release import RawVideo
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import Matrix, alignment, transform, warp
from mol_fast.vision.faces import Face, FaceFinder
from mol_fast.vision.finders import Finders, least_score
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.sizes import MAX_CLIP, PAIRS, WINDOW, interval, widened
from mol_fast.vision.video import IMAGE_SUFFIXES, Picture, grey, read_image, used_bits

_PAIRS = {"cpu": 16, "cuda": 256}  # pairs of frames in one batch of flow: memory stays small, and a GPU busy
_WIDER = 0.5  # border added on each side of a frame without a found face, as a share of its size

Align = Literal["clip", "frame"]


@dataclass(frozen=True)
class Settings:
    """Settings of the preparation.

    Attributes:
        align: "clip" aligns all frames by the landmarks of the first frame, "frame" every frame by its own.
        faces: finder of faces.
        min_score: smallest score of a face.
        device: PyTorch's name of the device that computes flow.
        macro: of long videos, make clips of macro-expressions, too.
    """

    align: Align = "clip"
    faces: Finders = "mediapipe"
    min_score: float = least_score("mediapipe")
    device: str = "cpu"
    macro: bool = False


@dataclass(frozen=True)
class Prepared:
    """A prepared video.

    Attributes:
        data: the data to store.
        apex: index of the apex frame, None if not annotated.
        fps: frames per second of a video file; None if the frames are images.
        score: detection score of the face in the first frame.
        fixes: problems that were fixed.
    """

    data: VideoData
    apex: int | None
    fps: float | None
    score: float
    fixes: tuple[str, ...]


def prepare_video(video: RawVideo, finder: FaceFinder, settings: Settings) -> Prepared:
    """Align the frames of a video, predict the landmarks of every frame, and compute flow over one interval.

    The face is found in the first frame, and followed from there. If the frame is cut too tightly to find the face, the
    search is repeated in a frame widened by its border pixels. Only one raw frame is in memory at a time.

    Raises:
        UserError: the video has no face, too few frames, frames of different sizes, or landmarks that cannot be used.
    """
    reader = _FrameReader(video)
    aligner = _Aligner(finder, settings.align)
    frames: list[Picture] = []
    landmarks: list[npt.NDArray[np.float32]] = []
    for name, frame in reader:
        if len(frames) == MAX_CLIP:
            raise UserError(f"the video has more than {MAX_CLIP} frames, too many for one clip; cut it")
        crop, points = aligner(name, frame)
        frames.append(crop)
        landmarks.append(points)
    fixes = (*reader.fixes(), *aligner.fixes)
    if len(frames) < WINDOW:
        raise UserError("; ".join((f"only {len(frames)} frames can be read, at least {WINDOW} are needed", *fixes)))
    if len(frames) < LEAST_PRESENT * reader.count:
        read = f"only {len(frames)} of {reader.count} frames can be read, at least {LEAST_PRESENT:.0%} are needed"
        raise UserError("; ".join((read, *fixes)))
    stacked = torch.from_numpy(np.stack(frames))
    data = VideoData(stacked, torch.from_numpy(np.stack(landmarks)), clip_flow(stacked, settings.device))
    problem = value_problem(data)
    if problem is not None:
        raise UserError("; ".join((problem, *fixes)))
    return Prepared(data, reader.apex(), reader.fps, aligner.score, fixes)


def clip_flow(frames: torch.Tensor, device: str) -> torch.Tensor:
    """Return TV-L1 flow (7 interval, 2, H, W), float16, from each frame to the frame one interval later."""
    from mol_fast import tvl1

    step = interval(len(frames))
    count = PAIRS * step
    grey_levels = frames.to(device, torch.float32)
    batch = _PAIRS.get(grey_levels.device.type, _PAIRS["cuda"])
    previous, following = grey_levels[:count].split(batch), grey_levels[step : step + count].split(batch)
    return torch.cat([tvl1.flow(*pairs).half().cpu() for pairs in zip(previous, following, strict=True)])


def checked_size(name: str, frame: Picture, before: tuple[int, ...] | None, of: str) -> tuple[int, ...]:
    """Return the size (height, width) of a frame.

    Args:
        name: name of the frame, for the message.
        frame: the frame.
        before: size of the frames before it; None for the first one.
        of: what the frames are of, for the message.

    Raises:
        UserError: it has another size than the frames before it.
    """
    if before is not None and frame.shape != before:
        raise UserError(
            f"{name} is {frame.shape[1]} x {frame.shape[0]} pixels where frames before it are "
            f"{before[1]} x {before[0]}: all frames of a {of} must have the same size"
        )
    return frame.shape


class _FrameReader:
    """Reader of the readable frames of a raw video, in grey, with their names."""

    def __init__(self, video: RawVideo) -> None:
        self._video = video
        self._before = 0  # frames that are read before the onset
        self._kept: list[int] = []
        self._unreadable: list[str] = []
        self._notes: tuple[str, ...] = ()
        self.fps: float | None = None  # of a video file, known when it is read

    def __iter__(self) -> Iterator[tuple[str, Picture]]:
        size: tuple[int, ...] | None = None
        for index, (name, picture) in enumerate(self._pictures()):
            if picture is None:
                self._unreadable.append(name)
                continue
            frame = grey(picture)
            size = checked_size(name, frame, size, "video")
            self._kept.append(index)
            yield name, frame

    def _pictures(self) -> Iterator[tuple[str, Picture | None]]:
        files = self._video.frames
        if len(files) == 1 and files[0].suffix.lower() not in IMAGE_SUFFIXES:
            source = VideoFile(files[0])
            self._notes, self.fps = source.notes, source.fps
            part = self._part(source)
            for index, picture in enumerate(islice(source, part.stop)):
                if index >= part.start:
                    yield f"frame {index} of {files[0].name}", picture
            return
        bits = used_bits(files)
        if any(self._video.beside):
            files = self._completed(bits)
        for file in files:
            yield file.name, _readable(file, bits)

    def _part(self, source: VideoFile) -> slice:
        """Return the frames of the video in its file, by index. A short one is widened to a window."""
        onset, offset = self._video.numbers or (1, source.count)
        count = offset - onset + 1
        if source.count == count:
            return slice(0, count)
        if source.count < offset:
            raise UserError(
                f"{source.path.name} has {source.count} frames, neither the {count} from onset to offset "
                f"nor all {offset} up to the offset"
            )
        if count >= WINDOW or source.count < WINDOW:
            return slice(onset - 1, offset)
        part = widened(onset - 1, offset, source.count)
        self._before = onset - 1 - part.start
        self._notes += (widened_text(count),)
        return part

    def _completed(self, bits: int) -> tuple[Path, ...]:
        """Return the frames of a short clip, with frames beside it for those that cannot be read, up to a window."""
        files, (before, after) = self._video.frames, self._video.beside
        if sum(_readable(file, bits) is not None for file in files) >= WINDOW:
            return files
        every = (*before, *files, *after)
        good = [index for index, file in enumerate(every) if _readable(file, bits) is not None]
        if len(good) < WINDOW:
            return files
        first, stop = (bisect_left(good, index) for index in (len(before), len(before) + len(files)))
        own = range(len(before), len(before) + len(files))
        taken = sorted({*own, *good[widened(first, stop, len(good))]})
        self._before = bisect_left(taken, own.start)
        self._notes = (f"frames beside the clip stand in for those that cannot be read, to have {WINDOW}",)
        return tuple(every[index] for index in taken)

    @property
    def count(self) -> int:
        """Number of frames so far, readable or not."""
        return len(self._kept) + len(self._unreadable)

    def apex(self) -> int | None:
        """Return the index of the apex, or of the nearest frame, among the readable frames."""
        if self._video.apex is None:
            return None
        apex = self._video.apex + self._before
        return min(range(len(self._kept)), key=lambda i: abs(self._kept[i] - apex))

    def fixes(self) -> tuple[str, ...]:
        unreadable = (f"unreadable, left out: {named(self._unreadable)}",) if self._unreadable else ()
        return self._notes + unreadable


def _readable(file: Path, bits: int) -> Picture | None:
    try:
        return read_image(file, bits)
    except UserError:
        return None


class _Aligner:
    """Aligner of the frames of one video."""

    def __init__(self, finder: FaceFinder, align: Align) -> None:
        self._finder = finder
        self._align = align
        self._matrix: Matrix | None = None
        self._face: Face | None = None
        self._widen = False
        self.score = 0.0
        self.fixes: list[str] = []

    def __call__(self, name: str, frame: Picture) -> tuple[Picture, npt.NDArray[np.float32]]:
        """Return the crop (144, 144) of a frame and its landmarks (68, 2)."""
        if self._face is None or self._matrix is None or self._align == "frame":
            frame, face = self._find(name, frame)
            if self._face is None:
                self.score = face.score
                if face.found > 1:
                    self.fixes.append(f"{face.found} faces in {name}, the largest is used")
            self._matrix = _matrix(name, face)
        else:
            frame = _wider(frame) if self._widen else frame
            face = self._finder.update(frame, self._face)
        self._face = face
        return warp(frame, self._matrix), transform(face.landmarks, self._matrix).astype(np.float32)

    def _find(self, name: str, frame: Picture) -> tuple[Picture, Face]:
        if not self._widen:
            face = self._finder.find(frame)
            if face is not None:
                return frame, face
        wide = _wider(frame)
        face = self._finder.find(wide)
        if face is None:
            raise UserError(f"no face found in {name}")
        if not self._widen:
            self._widen = True
            self.fixes.append(f"face found in {name} only after widening it by its border pixels")
        return wide, face


def _matrix(name: str, face: Face) -> Matrix:
    try:
        return alignment(face.landmarks)
    except ValueError as error:
        raise UserError(f"the landmarks found in {name} cannot be aligned ({error})") from error


def _wider(frame: Picture) -> Picture:
    rows, columns = (round(_WIDER * side) for side in frame.shape)
    return np.pad(frame, ((rows, rows), (columns, columns)), mode="edge")
