"""Give images another texture, so that a network learns shapes and motion, not the skin of its training faces.

Random convolutions as in Xu et al., "Robust and Generalizable Visual Representation Learning via Random Convolutions",
ICLR 2021: an image is mixed with its convolution by a random kernel of up to 7 x 7 pixels. The share of the mixture is
random, too. Edges stay where they are within 3 pixels. Where both parts have opposite signs, contrast is lost: half of
it or more in a fifth of all draws.
"""

import numpy as np
import numpy.typing as npt

_SIDES = (1, 3, 5, 7)
"""Sides of a kernel, in pixels."""


def retextured(rng: np.random.Generator, frames: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return frames (T, H, W) with another texture, all alike, so that the flow between them stays the same.

    The mean over all frames stays, too.

    Args:
        rng: source of all random numbers.
        frames: grey levels of any dtype that OpenCV reads.
    """
    import cv2

    side = int(rng.choice(_SIDES))
    kernel = rng.normal(0, 1 / side, (side, side))
    before = frames.astype(np.float32)
    after = np.stack([cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT) for frame in before])
    contrast = float(before.std()) / max(float(after.std()), 1e-3)
    after = (after - after.mean()) * np.float32(contrast) + before.mean()
    share = np.float32(rng.random())
    return np.asarray(share * before + (1 - share) * after, np.float32)
