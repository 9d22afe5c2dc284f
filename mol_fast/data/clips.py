"""Cut clips from videos: windows, crops, flips, normalisation."""

from collections.abc import Sequence
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mol_fast.data.protocols import Protocol
from mol_fast.data.store import Video, VideoData
from mol_fast.data.textures import retextured
from mol_fast.utils.names import Subject
from mol_fast.vision.facs import unit_truth
from mol_fast.vision.ibug import mirrored
from mol_fast.vision.sizes import CROP, FRAME, MARGIN, PAIRS, interval


class Clip(NamedTuple):
    """Frames (T, H, W), flow (2, T-1, H, W) from each frame to the next, landmarks (T, 68, 2). Units: pixels."""

    frames: Tensor
    flow: Tensor
    landmarks: Tensor


def cut_window(data: VideoData, window: int) -> Clip:
    """Return window number `window` of a video: 8 frames, one interval apart, and the flow between them.

    The tensors are views, not copies.

    Raises:
        ValueError: the video has no such window.
    """
    step = interval(len(data.frames))
    if not 0 <= window < step:
        raise ValueError(f"window is {window} where the video has {step} windows")
    frames = slice(window, window + PAIRS * step + 1, step)
    pairs = slice(window, window + (PAIRS - 1) * step + 1, step)
    return Clip(data.frames[frames], data.flow[pairs].transpose(0, 1), data.landmarks[frames])


def crop_clip(clip: Clip, x: int, y: int, size: int = CROP) -> Clip:
    """Crop a square of `size` pixels with top left pixel (x, y). Landmarks may lie outside of it.

    Raises:
        ValueError: the square is not inside the frame.
    """
    height, width = clip.frames.shape[-2:]
    if not (0 <= x <= width - size and 0 <= y <= height - size):
        raise ValueError(f"a crop of {size} at x = {x}, y = {y} does not lie in a frame of {width} x {height}")
    square = (..., slice(y, y + size), slice(x, x + size))
    return Clip(clip.frames[square], clip.flow[square], clip.landmarks - clip.landmarks.new_tensor([x, y]))


def flip_clip(clip: Clip) -> Clip:
    """Mirror a clip: reverse frames and flow in x, negate the x flow, mirror and reorder the landmarks.

    The reordering keeps names right: the left eye is again the eye on the left.
    """
    sign = clip.flow.new_tensor([-1, 1])[:, None, None, None]
    landmarks = mirrored(clip.landmarks, clip.frames.shape[-1])
    return Clip(clip.frames.flip(-1), clip.flow.flip(-1) * sign, landmarks)


def normalise_frames(frames: Tensor) -> Tensor:
    """Normalise frames (..., T, H, W) of any dtype to float32 with mean 0 and standard deviation 1 over each clip.

    A clip without contrast becomes 0.
    """
    # Sums of grey levels are exact in float64, so the result does not depend on the number of threads.
    values = frames.double()
    mean = values.mean(dim=(-3, -2, -1), keepdim=True)
    variance = values.square().mean(dim=(-3, -2, -1), keepdim=True) - mean.square()
    return ((values - mean) / variance.clamp(min=1e-6).sqrt()).float()


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Windows of videos, cropped, augmented and normalised. One item is one window.

    An item is a dict: `frames`, float32 (1, 8, 128, 128), normalised over the clip; `flow`, float32 (2, 7, 128, 128),
    and `landmarks`, float32 (8, 68, 2), in pixels of the crop; `label`, the class; `units`, int8 (12,), what
    `mol_fast.vision.facs.unit_truth` says; `video`, the index into `videos`; `window`, the number of the window. An
    item depends only on `seed`, the epoch and the index.

    The index may also be a pair (index, draw): every draw has its own offsets and flips, draw 0 those of the plain
    index. This lets a sampler use one window several times in an epoch.

    Args:
        videos: the videos; those whose label the protocol ignores give no items.
        protocol: maps labels to classes.
        crop: "random" (new offsets in every epoch) or "center".
        flip: mirror half of the clips, chosen anew in every epoch.
        seed: seed of everything random.
        crops: number of items of each window, which differ in their random offsets.
        textures: share of the clips that get another texture, see `retextured`, chosen anew in every epoch.

    Raises:
        UserError: the protocol does not know the label of a video. When an item is read: a video file is missing or
            corrupt.
        ValueError: `crop` is neither "random" nor "center".
    """

    def __init__(
        self,
        videos: Sequence[Video],
        protocol: Protocol,
        crop: Literal["random", "center"] = "center",
        flip: bool = False,
        seed: int = 0,
        crops: int = 1,
        textures: float = 0.0,
    ) -> None:
        if crop not in ("random", "center"):
            raise ValueError(f"crop is {crop!r}, must be 'random' or 'center'")
        self.videos = list(videos)
        self.units = torch.tensor([unit_truth(video.action_units) for video in self.videos], dtype=torch.int8)
        self.protocol = protocol
        self.crop = crop
        self.flip = flip
        self.seed = seed
        self.textures = textures
        self.epoch = 0
        self.windows = [
            (index, window, label)
            for index, video in enumerate(self.videos)
            if (label := protocol.class_of(video)) is not None
            for window in range(video.interval)
            for _ in range(crops)
        ]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines offsets and flips."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.windows)

    def subjects(self) -> list[Subject]:
        """Return the subjects with clips, sorted."""
        return sorted({self.videos[index].id.person for index, _, _ in self.windows})

    def spans(self) -> tuple[float, float, float] | None:
        """Return the shortest, median and longest span of a window, from its first to its last frame, in seconds.

        None if the rate of a video is unknown.
        """
        spans = [self.videos[index].span for index, _, _ in self.windows]
        known = [span for span in spans if span is not None]
        return (min(known), median(known), max(known)) if known and len(known) == len(spans) else None

    def mean_landmarks(self) -> Tensor:
        """Return the mean landmarks of the videos, (68, 2) in pixels of the centre crop."""
        faces = [self.videos[index].read().landmarks.mean(dim=0) for index in sorted({row[0] for row in self.windows})]
        return torch.stack(faces).mean(dim=0) - MARGIN

    def __getitem__(self, item: int | Sequence[int]) -> dict[str, Tensor]:
        index, draw = item if isinstance(item, Sequence) else (item, 0)
        video, window, label = self.windows[index]
        clip = cut_window(self.videos[video].read(), window)
        x = y = MARGIN
        place = [self.seed, self.epoch, index % len(self)]
        rng = np.random.default_rng([*place, draw] if draw else place)
        if self.crop == "random":
            x, y = rng.integers(FRAME - CROP + 1, size=2).tolist()
        clip = crop_clip(clip, x, y)
        if self.flip and rng.random() < 0.5:
            clip = flip_clip(clip)
        frames = clip.frames
        if self.textures and rng.random() < self.textures:
            frames = torch.from_numpy(retextured(rng, frames.numpy()))
        return {
            "frames": normalise_frames(frames)[None],
            "flow": clip.flow.float().contiguous(),
            "landmarks": clip.landmarks,
            "label": torch.tensor(label),
            "units": self.units[video],
            "video": torch.tensor(video),
            "window": torch.tensor(window),
        }
