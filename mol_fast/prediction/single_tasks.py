"""Optical flow alone, and landmarks alone, of many pictures: `mol_fast.flow` and `mol_fast.landmarks`.

The network reads clips of 8 frames. Its landmarks of a frame depend on that frame alone, so 7 pictures share a clip. A
picture is read as it is and mirrored, and the mean of both is nearer to the truth than either.
Its flow between two frames depends little on the other frames, so a pair may be read by itself; pairs that
follow one another share a clip, which takes a seventh of the time.
"""

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mol_fast.data.clips import normalise_frames
from mol_fast.nn.weights import GENERAL, find_weights
from mol_fast.prediction.aligned import AlignedWindow, Skipped, aligned_windows, describe
from mol_fast.prediction.predictor import Predictor, batched, centre
from mol_fast.prediction.windows import Window
from mol_fast.utils.ahead import ahead
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import Matrix, centre_crop, inverse, transform
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import Finders, open_finder
from mol_fast.vision.ibug import mirrored
from mol_fast.vision.sizes import CROP, FRAME, PAIRS, WINDOW
from mol_fast.vision.tracking import FaceTracker
from mol_fast.vision.video import FrameArray

Array = TypeVar("Array", npt.NDArray[np.generic], Tensor)
Pictures = npt.NDArray[np.uint8]
Run = tuple[int, Pictures, list[Window]]
"""Number of the first result, the pictures that are read together, and their windows."""


def flow(
    previous: Array,
    next: Array,
    weights: str | os.PathLike[str] = GENERAL,
    *,
    aligned: bool = False,
    faces: Finders = "mediapipe",
    min_score: float | None = None,
    device: str = "auto",
    batch_size: int = 4,
) -> Array:
    """Estimate the optical flow of faces from each picture of `previous` to that of `next`.

    The motion should be like that of the training: pairs of frames about an eighth of an expression apart. For a video
    give `frames[:-1]` and `frames[1:]`: pairs that follow one another are read together, 8 frames at a time.

    Args:
        previous, next: N pictures each: grey (N, H, W), or RGB (N, H, W, 3) or (N, 3, H, W); uint8, or floating point
            from 0 to 1, which is rounded to 8 bits; numpy arrays or tensors.
        weights: a weights file, the folder of a run, or "owner/name". Default: the weights that come with mol-fast.
        aligned: the pictures are aligned crops, such as the frames of a prepared set, 144 x 144 pixels. Default: whole
            pictures, in which the largest face of the first one is found and followed. That needs the extra `faces`.
        faces: finder of faces, "mediapipe" or "dlib".
        min_score: smallest score of a face. Default: that of the finder.
        device: "cpu", "cuda", ..., or "auto" (a GPU if there is one).
        batch_size: number of clips of 8 frames in one batch.

    Returns:
        float32 (N, 2, H, W), of the kind of `previous`: the flow in pixels of the pictures, first along x (columns),
        then along y (rows). NaN outside of the square that the network sees (of an aligned crop all but a margin of
        1/18), and where 8 frames that are read together cannot be used: a face is not seen in all of them or blurred,
        there is a cut between them, or they have no contrast.

    Raises:
        UserError: the weights were not trained for flow, no picture can be used, the finder of faces is not installed,
            or the weights or the device cannot be used.
        ValueError: an argument has a wrong shape, dtype or range.
    """
    first, second = _pictures(previous, "previous", aligned), _pictures(next, "next", aligned)
    if first.shape != second.shape:
        raise ValueError(f"previous and next must have one shape, got {first.shape} and {second.shape}")
    predictor = _predictor(weights, device, batch_size, "flow")
    height, width = first.shape[1:3]
    found = np.full((len(first), 2, height, width), np.nan, dtype=np.float32)
    items = _aligned(_consecutive(first, second), None if aligned else _finder(faces, min_score), "clip")
    for batch in batched(items, batch_size):
        clips = np.stack([centre(_padded(item.frames)) for _, item in batch])
        fields = predictor.estimate(normalise_frames(torch.from_numpy(clips)), "the pictures").flow
        assert fields is not None
        for (place, item), field in zip(batch, fields, strict=True):
            pairs = len(item.frames) - 1
            start = place + item.window.start
            found[start : start + pairs] = _in_picture(field[:, :pairs], item.matrix, height, width)
    return _like(previous, found)


def landmarks(
    frames: Array,
    weights: str | os.PathLike[str] = GENERAL,
    *,
    aligned: bool = False,
    faces: Finders = "mediapipe",
    min_score: float | None = None,
    device: str = "auto",
    batch_size: int = 4,
) -> Array:
    """Estimate the 68 iBUG landmarks of the face in each picture, by itself: they need not be of one video.

    They are the mean of what the network sees in a picture and in its mirror image.

    Args:
        frames: N pictures: grey (N, H, W), or RGB (N, H, W, 3) or (N, 3, H, W); uint8, or floating point from 0 to 1,
            which is rounded to 8 bits; a numpy array or a tensor.
        weights: a weights file, the folder of a run, or "owner/name". Default: the weights that come with mol-fast.
        aligned: the pictures are aligned crops, such as the frames of a prepared set, 144 x 144 pixels. Default: whole
            pictures, in which the largest face is found. That needs the extra `faces`.
        faces: finder of faces, "mediapipe" or "dlib".
        min_score: smallest score of a face. Default: that of the finder.
        device: "cpu", "cuda", ..., or "auto" (a GPU if there is one).
        batch_size: number of clips, of 7 pictures each, in one batch.

    Returns:
        float32 (N, 68, 2), of the kind of `frames`: the points (x, y) in pixels of the pictures. NaN where no face is
        seen, the face is blurred, or the picture has no contrast.

    Raises:
        UserError: the weights were not trained for landmarks, no picture can be used, the finder of faces is not
            installed, or the weights or the device cannot be used.
        ValueError: an argument has a wrong shape, dtype or range.
    """
    pictures = _pictures(frames, "frames", aligned)
    predictor = _predictor(weights, device, batch_size, "landmarks")
    found = np.full((len(pictures), 68, 2), np.nan, dtype=np.float32)
    runs = ((place, pictures[place : place + 1], [Window((0,), 0)]) for place in range(len(pictures)))
    items = _aligned(runs, None if aligned else _finder(faces, min_score), "picture")
    for batch in batched(items, max(PAIRS * batch_size // 2, 1)):
        crops = torch.from_numpy(np.stack([centre(item.frames) for _, item in batch]))
        singles = normalise_frames(crops).squeeze(1)  # each by itself, so that no picture depends on the others
        clips = [_clip_of(part) for part in torch.cat([singles, singles.flip(-1)]).split(PAIRS)]
        points = predictor.estimate(torch.stack(clips), "the pictures").landmarks
        assert points is not None
        both = points.reshape(-1, 68, 2)[: 2 * len(batch)].reshape(2, len(batch), 68, 2)
        means = (both[0] + mirrored(both[1], CROP)) / 2
        for (place, item), own in zip(batch, means, strict=True):
            found[place] = transform(own, inverse(centre_crop(item.matrix, FRAME, CROP)))
    return _like(frames, found)


def _pictures(given: npt.NDArray[np.generic] | Tensor, name: str, aligned: bool) -> Pictures:
    """Return pictures as uint8, (N, H, W) or (N, H, W, 3).

    Raises:
        ValueError: they have a wrong type, shape, dtype or range.
    """
    if isinstance(given, Tensor):
        if given.is_meta or given.layout != torch.strided:
            raise ValueError(f"{name} must be an ordinary tensor, got one that is meta or sparse")
        cpu = given.detach().cpu()
        values = (cpu.float() if cpu.is_floating_point() else cpu).numpy()
    elif isinstance(given, np.ndarray):
        values = given
    else:
        raise ValueError(f"{name} must be a numpy array or a tensor, got {type(given).__name__}")
    if values.ndim == 4 and values.shape[1] == 3 != values.shape[3]:
        values = np.moveaxis(values, 1, 3)
    is_grey, is_rgb = (values.ndim == axes and (values.shape[-1] == 3) == rgb for axes, rgb in ((3, False), (4, True)))
    if not (is_grey or is_rgb) or not values.size:
        advice = ": give a single picture as picture[None]" if values.ndim == 2 or values.shape[-1:] == (3,) else ""
        raise ValueError(
            f"{name} must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), with N > 0, got {tuple(given.shape)}{advice}"
        )
    is_float = np.issubdtype(values.dtype, np.floating)
    if values.dtype != np.uint8 and not is_float:
        raise ValueError(f"{name} must be uint8 or floating point, got {values.dtype}")
    if is_float and not (values.min() >= 0 and values.max() <= 1):  # also NaN
        raise ValueError(
            f"{name} must be from 0 to 1 where it is floating point, got {values.min():g} to {values.max():g}"
        )
    if aligned and values.shape[1:3] != (FRAME, FRAME):
        raise ValueError(
            f"{name} must be {FRAME} x {FRAME} pixels where they are aligned, got {values.shape[2]} x {values.shape[1]}"
        )
    return np.rint(values * 255).astype(np.uint8) if is_float else np.ascontiguousarray(values)


def _predictor(
    weights: str | os.PathLike[str], device: str, batch_size: int, only: Literal["flow", "landmarks"]
) -> Predictor:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number from 1 on, got {batch_size!r}")
    file = find_weights(weights)
    return _loaded(str(file), file.stat().st_mtime_ns, device, batch_size, only)


@lru_cache(maxsize=2)
def _loaded(file: str, changed: int, device: str, batch_size: int, only: Literal["flow", "landmarks"]) -> Predictor:
    """Return the predictor of a file that was changed at this time; the last two stay loaded for further calls."""
    return Predictor(file, device, batch_size, only)


@lru_cache(maxsize=2)
def _finder(faces: Finders, min_score: float | None) -> FaceFinder:
    if faces not in get_args(Finders):
        raise ValueError(f"faces must be one of {', '.join(get_args(Finders))}, got {faces!r}")
    return open_finder(faces, min_score)


def _consecutive(first: Pictures, second: Pictures) -> Iterator[Run]:
    """Yield runs of pairs in which the second picture of each is the first one of the next."""
    start = 0
    for place in range(1, len(first) + 1):
        if place == len(first) or not np.array_equal(second[place - 1], first[place]):
            pictures = np.concatenate([first[start:place], second[place - 1 : place]])
            last = len(pictures) - 1
            frames = (tuple(range(k, min(k + PAIRS, last) + 1)) for k in range(0, last, PAIRS))
            yield start, pictures, [Window(chosen, chosen[0]) for chosen in frames]
            start = place


def _aligned(runs: Iterable[Run], finder: FaceFinder | None, what: str) -> Iterator[tuple[int, AlignedWindow]]:
    """Yield the windows that can be used, each after the number of its run; faces are found in a thread, ahead.

    Args:
        runs: the pictures, and their windows.
        finder: finder of faces; None if the pictures are aligned.
        what: what a window is called in a message.

    Raises:
        UserError: no window can be used.
    """

    def read() -> Iterator[tuple[int, AlignedWindow | Skipped]]:
        for place, pictures, windows in runs:
            source = FrameArray(pictures, aligned=finder is None)
            tracker = None if finder is None else FaceTracker(finder)
            for item in aligned_windows(source, windows, tracker):
                yield place, item

    skipped, used = [], False
    for place, item in ahead(read(), WINDOW):
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            used = True
            yield place, item
    if not used:
        raise UserError(f"no picture can be used ({describe(skipped, what)}): give pictures that show a face")


def _padded(frames: Pictures) -> Pictures:
    """Repeat the last of up to 8 frames, so that there are 8."""
    return np.concatenate([frames, np.repeat(frames[-1:], WINDOW - len(frames), axis=0)])


def _clip_of(part: Tensor) -> Tensor:
    """Return a clip (8, H, W) whose frames but the first are up to 7 pictures, the last one as often as 7 lack."""
    return torch.cat([part[:1], part, part[-1:].expand(PAIRS - len(part), -1, -1)])


def _in_picture(field: npt.NDArray[np.float32], matrix: Matrix, height: int, width: int) -> npt.NDArray[np.float32]:
    """Bring flow (2, P, 128, 128) of the crop into the picture, (P, 2, H, W) in its pixels; NaN outside of the crop."""
    import cv2

    to_crop = centre_crop(matrix, FRAME, CROP)
    own = np.einsum("ij,jpyx->pyxi", inverse(to_crop)[:, :2], field).astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = width, height
    fields = [cv2.warpAffine(one, to_crop, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for one in own]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    places = transform(np.stack([x, y], axis=-1), to_crop)
    outside = ((places < -0.5) | (places > CROP - 0.5)).any(axis=-1)
    result = np.stack(fields).transpose(0, 3, 1, 2).astype(np.float32, copy=False)
    result[:, :, outside] = np.nan
    return result


def _like(given: Array, values: npt.NDArray[np.float32]) -> Array:
    """Return values as a tensor on the device of `given`, or as an array if it is one."""
    return torch.from_numpy(values).to(given.device) if isinstance(given, Tensor) else values
