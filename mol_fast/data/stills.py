"""Single frames of videos, each changed at random, to learn landmarks from more faces than clips have."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mol_fast.data.clips import normalise_frames
from mol_fast.data.store import Video
from mol_fast.data.textures import retextured
from mol_fast.vision.align import transform
from mol_fast.vision.ibug import mirrored
from mol_fast.vision.sizes import CROP, FRAME, MARGIN

_TURN = 4.0  # standard deviation in degrees
_SCALE = 0.05  # standard deviation of the logarithm
_BEND, _NODES = 3.0, 5  # standard deviation in pixels, of a smooth field with this number of nodes across

Picture = npt.NDArray[np.float32]


class StillDataset(Dataset[dict[str, Tensor]]):
    """One frame of each video, turned, scaled, shifted, bent, lit, blurred and partly covered at random.

    The 8 frames of a clip show one face, as many stills show 8. And clips cannot be changed so: their flow would
    change, too. An item is a dict: `stills`, float32 (1, 128, 128), normalised; `still_landmarks`, float32 (68, 2), in
    pixels of the crop. It depends only on `seed`, the epoch and the index, which may also be a pair (index, draw), see
    `ClipDataset`.

    Args:
        videos: the videos.
        flip: mirror half of the stills.
        seed: seed of everything random.
        textures: share of the stills that get another texture, see `retextured`.

    Raises:
        UserError: when an item is read: a video file is missing or corrupt.
    """

    def __init__(self, videos: Sequence[Video], flip: bool = True, seed: int = 0, textures: float = 0.0) -> None:
        self.videos, self.flip, self.seed, self.textures = list(videos), flip, seed, textures
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines frames and changes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, item: int | Sequence[int]) -> dict[str, Tensor]:
        index, draw = item if isinstance(item, Sequence) else (item, 0)
        rng = np.random.default_rng([self.seed, self.epoch, index, draw])
        data = self.videos[index].read()
        place = int(rng.integers(len(data.frames)))
        picture, landmarks = data.frames[place].numpy(), data.landmarks[place].numpy()
        if self.flip and rng.random() < 0.5:
            picture, landmarks = picture[:, ::-1], mirrored(landmarks, FRAME)
        picture, landmarks = _bent(rng, *_moved(rng, picture, landmarks))
        picture = _lit(rng, picture)
        if self.textures and rng.random() < self.textures:
            picture = retextured(rng, picture[None])[0]
        still = torch.from_numpy(_covered(rng, _seen(rng, picture)))[None]
        return {"stills": normalise_frames(still), "still_landmarks": torch.from_numpy(landmarks.astype(np.float32))}


def _moved(
    rng: np.random.Generator, picture: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating]
) -> tuple[Picture, npt.NDArray[np.floating]]:
    """Turn, scale and shift a frame into the crop; its edge is mirrored."""
    import cv2

    angle, scale = np.radians(rng.normal(0, _TURN)), np.exp(rng.normal(0, _SCALE))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = (CROP - 1) / 2 + rng.uniform(-MARGIN, MARGIN, 2) - turn @ np.full(2, (FRAME - 1) / 2)
    matrix = np.column_stack([turn, shift])
    size = CROP, CROP
    moved = cv2.warpAffine(
        np.ascontiguousarray(picture), matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return moved.astype(np.float32), transform(landmarks, matrix)


def _bent(
    rng: np.random.Generator, picture: Picture, landmarks: npt.NDArray[np.floating]
) -> tuple[Picture, npt.NDArray[np.floating]]:
    """Bend a crop smoothly, so that the proportions of faces differ more than those of the people in the set."""
    import cv2

    nodes = rng.normal(0, _BEND, (2, _NODES, _NODES)).astype(np.float32)
    x, y = (cv2.resize(part, (CROP, CROP), interpolation=cv2.INTER_CUBIC) for part in nodes)
    across, down = np.meshgrid(*(np.arange(CROP, dtype=np.float32),) * 2)
    bent = cv2.remap(picture, across + x, down + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    places = landmarks.astype(np.float32)
    for _ in range(6):  # a pixel shows what lay at its place + field; a landmark goes the other way
        at = places[None, :, 0], places[None, :, 1]
        shown = [cv2.remap(part, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0] for part in (x, y)]
        places = landmarks.astype(np.float32) - np.stack(shown, axis=-1)
    return np.asarray(bent, np.float32), places


def _lit(rng: np.random.Generator, picture: Picture) -> Picture:
    """Change the gamma, and often light one side more than the other."""
    lit = 255 * (picture / 255) ** np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.5:
        place = np.linspace(-1, 1, CROP)
        lit = lit * np.exp(rng.normal(0, 0.35) * place + rng.normal(0, 0.35) * place[:, None])
    return np.asarray(lit, np.float32)


def _seen(rng: np.random.Generator, picture: Picture) -> Picture:
    """Blur some pictures, and add noise to others."""
    import cv2

    kind = rng.random()
    if kind < 0.3:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6)), np.float32)
    if kind < 0.6:
        return picture + np.float32(rng.uniform(1, 8)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return picture


def _covered(rng: np.random.Generator, picture: Picture) -> Picture:
    """Cover a rectangle of some pictures, as a hand or a microphone does."""
    if rng.random() < 0.3:
        width, height = rng.integers(CROP // 12, CROP // 3, 2)
        x, y = rng.integers(CROP - width), rng.integers(CROP - height)
        picture[y : y + height, x : x + width] = rng.uniform(0, 255)
    return picture
