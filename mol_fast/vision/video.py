"""Read frames from folders of images and arrays. Video files are read in `read_video`.

All pictures are uint8, grey (H, W) or RGB (H, W, 3). Every source is read frame by frame and can be read again. Only
the array keeps its frames in memory.
"""

import contextlib
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mol_fast.utils.errors import UserError
from mol_fast.vision.frame_numbers import number_files
from mol_fast.vision.sizes import WINDOW

Picture = npt.NDArray[np.uint8]
Times = npt.NDArray[np.float64]

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
MOST_SIDE = 8192
MOST_PIXELS = 40_000_000
"""Largest width or height, and most pixels, of a picture that is read; 8K video has 33 million."""


class FrameSource(Protocol):
    """A sequence of frames of one size.

    Every iteration starts at the first frame. It raises UserError if a frame cannot be read.
    """

    name: str  # for messages
    count: int  # number of frames
    fps: float | None  # mean frames per second, None if unknown
    times: Times | None  # (count,) time stamps in seconds, ascending; None if unknown
    notes: tuple[str, ...]  # what the user should know about the source, one sentence each
    aligned: bool  # frames are already aligned face crops

    def __iter__(self) -> Iterator[Picture]: ...

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames with these indices, ascending, each with its index."""
        ...

    def frame_name(self, index: int) -> str:
        """Return the name of a frame for messages."""
        ...


def even_times(count: int, fps: float | None) -> Times | None:
    """Return the times in seconds of frames at a constant rate, from 0; None if the rate is unknown."""
    return None if fps is None else np.arange(count) / fps


class ImageFolder:
    """The images of a folder, in the order of their frame numbers, see `number_files`. Other files are ignored.

    Deep images (16 bits per colour) are scaled to 8 bits by one factor, from the brightest value of all of them.

    Raises:
        UserError: the folder holds no images.
    """

    aligned = False

    def __init__(self, path: str | os.PathLike[str], fps: float | None = None) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.fps = fps
        found = number_files(file for file in self.path.iterdir() if is_image(file))
        self.files = [*found.files.values()]
        self.count = len(self.files)
        if not self.count:
            raise UserError(f"{self.name} {self._content()}")
        self.times = even_times(self.count, fps)
        ignored = [*found.doubled, *found.unnumbered]
        self.notes: tuple[str, ...] = ()
        if ignored:
            names = ", ".join(file.name for file in ignored[:5]) + (" ..." if len(ignored) > 5 else "")
            self.notes = (f"images without a frame number of their own, ignored: {names}",)

    def __iter__(self) -> Iterator[Picture]:
        return (picture for _, picture in self.pick(range(self.count)))

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, Picture]]:
        size: tuple[int, ...] | None = None
        bits = used_bits(self.files)
        for index in sorted(indices):
            file = self.files[index]
            frame = read_image(file, bits)
            if size is not None and frame.shape[:2] != size:
                raise UserError(
                    f"{file} is {frame.shape[1]} x {frame.shape[0]} pixels where {self.files[0].name} is "
                    f"{size[1]} x {size[0]}: all frames of a clip must have the same size"
                )
            size = frame.shape[:2]
            yield index, frame

    def frame_name(self, index: int) -> str:
        return str(self.files[index])

    def _content(self) -> str:
        if (self.path / "set.json").exists():
            return "is a prepared set, give one of the files in its folder 'videos'"
        if any(file.is_dir() for file in self.path.iterdir()):
            return "holds folders but no images, give the folder of one clip"
        return "holds no images (" + ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES)) + ")"


class FrameArray:
    """Frames in memory.

    Args:
        frames: uint8 (n, H, W), grey, or (n, H, W, 3), RGB.
        name: for messages.
        fps: frames per second, None if unknown.
        aligned: the frames are already aligned face crops.

    Raises:
        ValueError: `frames` has a wrong shape or dtype, or is empty.
    """

    def __init__(
        self, frames: npt.NDArray[np.uint8], name: str = "frames", fps: float | None = None, aligned: bool = False
    ) -> None:
        if not isinstance(frames, np.ndarray):
            raise ValueError(f"frames must be a numpy array, uint8 (n, H, W, 3), got {type(frames).__name__}")
        shape = frames.shape
        if frames.dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
            raise ValueError(f"frames must be uint8 (n, H, W) or (n, H, W, 3), got {frames.dtype} {shape}")
        if not frames.size:
            raise ValueError(f"frames must not be empty, got shape {shape}")
        self.frames = frames
        self.name = name
        self.fps = fps
        self.aligned = aligned
        self.count = len(frames)
        self.times = even_times(self.count, fps)
        self.notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.frames)

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, Picture]]:
        return ((index, self.frames[index]) for index in sorted(indices))

    def frame_name(self, index: int) -> str:
        return f"frame {index} of {self.name}"


def check_length(source: FrameSource) -> None:
    """Raise UserError if a source has fewer than 8 frames, too few for a window."""
    if source.count < WINDOW:
        frames = "frame" if source.count == 1 else "frames"
        raise UserError(f"{source.name} has {source.count} {frames}, at least {WINDOW} are needed")


def read_image(path: str | os.PathLike[str], bits: int | None = None) -> Picture:
    """Read an image file as uint8 (H, W, 3), RGB.

    Args:
        path: the file.
        bits: bits that the images of its clip use, see `used_bits`. Default: all that the file has.

    Raises:
        UserError: the file cannot be read as an image, is too large (its size is read before it is decoded), or has
            another depth than the images of its clip.
    """
    import cv2

    image = _decode(path)
    deep = image.dtype == np.uint16
    if bits is not None and deep != (bits > 0):
        has, others = (16, 8) if deep else (8, 16)
        raise UserError(
            f"{path} has {has} bits per colour where the first image of its clip has {others}: all images of a clip "
            "must have the same depth"
        )
    if deep:
        bits = bits or 16
        image = np.rint(np.minimum(image, 2**bits - 1) * (255 / (2**bits - 1))).astype(np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def used_bits(files: Sequence[Path]) -> int:
    """Return how many bits the deep images of a clip use, 0 if they are not deep.

    Cameras of 10 or 12 bits fill 16 bits in part. Only if the first readable image is deep, all are read. Images that
    cannot be read are left out.
    """
    bits = 0
    for file in files:
        try:
            image = _decode(file)
        except UserError:
            continue
        if image.dtype != np.uint16:
            break
        bits = max(bits, 8, int(image.max()).bit_length())
    return bits


def _decode(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Read an image file as uint8 or uint16 (H, W, 3), blue first."""
    import cv2

    image: Any = None
    with contextlib.suppress(cv2.error, OSError, ValueError):
        size = _image_size(path)
        check_picture_size(str(path), *size)
        data = np.fromfile(path, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype not in (np.uint8, np.uint16):
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path} cannot be read as an image, the file is damaged or of another kind")
    return np.asarray(image)


def check_picture_size(name: str, width: int, height: int) -> None:
    """Raise UserError if a picture called `name` has more pixels than are read."""
    if max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
        raise UserError(
            f"{name} is {width} x {height} pixels, at most {MOST_SIDE} on a side and {MOST_PIXELS // 10**6} million "
            "are read: make it smaller"
        )


def _image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return width and height by the header of an image file.

    Raises:
        ValueError: it is not an image, or its header is damaged.
        UserError: it has far too many pixels.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that the decoder reports
        try:
            with Image.open(path) as image:
                return image.size
        except Image.DecompressionBombError:
            raise UserError(
                f"{path} has more than {MOST_PIXELS // 10**6} million pixels, too many: make it smaller"
            ) from None
        except Exception as error:  # Pillow raises many kinds of errors for damaged headers
            raise ValueError(str(error)) from None


def grey(picture: Picture) -> Picture:
    """Convert a grey (H, W) or RGB (H, W, 3) picture to grey (H, W)."""
    if picture.ndim == 2:
        return picture
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def rgb(picture: Picture) -> Picture:
    """Convert a grey (H, W) or RGB (H, W, 3) picture to RGB (H, W, 3)."""
    return np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its name; hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
