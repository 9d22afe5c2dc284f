"""Subjects of the embedded set: smooth morphs of a photograph, each with its own texture and lighting."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from mol_fast.data.embedded.action_units import displacement_fields
from mol_fast.data.embedded.geometry import SmoothWarp, face_alignment, pixel_grid, sample
from mol_fast.data.embedded.photographs import PHOTOGRAPHS, Photograph, load_photograph
from mol_fast.vision.align import eye_centres
from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE, mirrored
from mol_fast.vision.sizes import FRAME

TEXELS = 2  # texels of a texture per pixel of the frame


@dataclass(frozen=True)
class Subject:
    """A neutral face, in coordinates of its aligned frame.

    Attributes:
        name: "s01" and so on.
        photograph: name of the photograph it was made from.
        margin: width in pixels of the border around the frame that texture and fields also cover.
        landmarks: float64 (68, 2), in pixels of the frame.
        texture: float64 (1, 1, t, t), t = 2 (144 + 2 margin), grey, 0 to 255.
        fields: float64 (2 units, 2, f, f), f = 144 + 2 margin: displacement by each half of each action unit, in the
            order of `displacement_fields`.
    """

    name: str
    photograph: str
    margin: int
    landmarks: Tensor
    texture: Tensor
    fields: Tensor


def make_subject(seed: int, index: int, margin: int) -> Subject:
    """Make subject `index` (counted from 0) of the set with this seed.

    Even subjects are made from the first photograph, odd subjects from the second.
    """
    rng = np.random.default_rng([seed, 0, index])
    photographs = [load_photograph(name) for name in PHOTOGRAPHS]
    base, other = photographs[index % 2], photographs[1 - index % 2]
    if rng.random() < 0.5:
        base = _mirrored(base)
    to_frame = face_alignment(base.landmarks)
    neutral = to_frame(base.landmarks)
    shape = _own_shape(rng, neutral, face_alignment(other.landmarks)(other.landmarks))
    realign = face_alignment(shape)
    warp = _warp(realign(shape), neutral)
    landmarks = warp.inverse(neutral)

    side = TEXELS * (FRAME + 2 * margin)
    points = (pixel_grid(side, side) + 0.5) / TEXELS - 0.5 - margin
    source = to_frame.inverse()(warp(points))
    picture = sample(base.picture[None, None], source[None], "bicubic").reshape(1, 1, side, side)
    texture = _own_look(rng, _band_limited(picture), landmarks, points)

    side = FRAME + 2 * margin
    fields = displacement_fields(landmarks, pixel_grid(side, side) - margin)
    fields = fields.flatten(0, 1).mT.reshape(-1, 2, side, side).contiguous()
    return Subject(f"s{index + 1:02d}", base.name, margin, landmarks, texture, fields)


def _mirrored(photograph: Photograph) -> Photograph:
    picture = photograph.picture.flip(-1)
    return Photograph(photograph.name, picture, mirrored(photograph.landmarks, picture.shape[-1]))


def _own_shape(rng: np.random.Generator, neutral: Tensor, other: Tensor) -> Tensor:
    """Draw the landmarks of a new person: partly those of the other photograph, with random features."""
    shape = neutral + rng.uniform(0, 0.35) * (other - neutral)
    eyes = torch.from_numpy(eye_centres(shape.numpy()))
    distance, middle = (eyes[1] - eyes[0]).norm(), eyes.mean(0)

    def scale(part: slice, x: float, y: float) -> None:
        centre = shape[part].mean(0)
        shape[part] = centre + (shape[part] - centre) * shape.new_tensor([x, y])

    def shift(part: slice, x: float, y: float) -> None:
        shape[part] += distance * shape.new_tensor([x, y])

    apart, brow = rng.normal(0, 0.03), rng.normal(0, 0.04)
    for eye, brows, sign in ((LEFT_EYE, slice(17, 22), -1), (RIGHT_EYE, slice(22, 27), 1)):
        shift(eye, sign * apart, 0)
        shift(brows, sign * apart, brow)
    for eye, size in ((LEFT_EYE, rng.normal(1, 0.08)), (RIGHT_EYE, rng.normal(1, 0.08))):
        scale(eye, size, size)
    for part, y, size in ((slice(27, 36), 0.03, 0.10), (slice(48, 68), 0.05, 0.10)):  # nose, mouth
        shift(part, 0, rng.normal(0, y))
        scale(part, rng.normal(1, size), rng.normal(1, size))
    jaw = shape[:17] - middle
    depth = (jaw[:, 1:] / distance).clamp(min=0)
    jaw[:, :1] *= rng.normal(1, 0.06) + rng.normal(0, 0.06) * depth
    jaw[:, 1:] *= rng.normal(1, 0.06)
    shape[:17] = jaw + middle
    return shape


def _warp(shape: Tensor, neutral: Tensor) -> SmoothWarp:
    """Return the morph from the subject's frame to the photograph's; a ring around the head stays fixed."""
    angle = torch.arange(24, dtype=torch.float64) * (2 * torch.pi / 24)
    ring = FRAME / 2 + 1.1 * FRAME * torch.stack([angle.cos(), angle.sin()], -1)
    return SmoothWarp(torch.cat([shape, ring]), torch.cat([neutral, ring]), stiffness=50.0)


def _band_limited(picture: Tensor) -> Tensor:
    """Blur a texture to the resolution of the frame."""
    offsets = torch.arange(-4, 5, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / (0.5 * TEXELS)) ** 2)
    kernel = kernel / kernel.sum()
    padded = pad(picture, (4, 4, 4, 4), mode="replicate")
    return conv2d(conv2d(padded, kernel.view(1, 1, 1, 9)), kernel.view(1, 1, 9, 1))


def _own_look(rng: np.random.Generator, picture: Tensor, landmarks: Tensor, points: Tensor) -> Tensor:
    """Add mottled skin, freckles, light from one side and a tone to the texture."""
    side = picture.shape[-1]
    shade = torch.zeros_like(picture)
    for pixels, amount in ((1.5, 0.02), (5, 0.025), (24, 0.05)):
        cells = 2 + int(side / TEXELS / pixels)
        noise = torch.from_numpy(rng.normal(0, amount, size=(1, 1, cells, cells)))
        shade += interpolate(noise, size=(side, side), mode="bicubic", align_corners=True)
    span = landmarks.amax(0) - landmarks.amin(0)
    for _ in range(rng.integers(0, 25)):
        centre = landmarks.amin(0) + torch.from_numpy(rng.uniform(0, 1, 2)) * span
        squared = (points - centre).square().sum(-1) / rng.uniform(0.7, 1.4) ** 2
        shade -= rng.uniform(0.05, 0.3) * torch.exp(-0.5 * squared).view_as(shade)
    u = ((points - (FRAME - 1) / 2) / (FRAME / 2)).T.reshape(2, side, side).clamp(-1.5, 1.5)
    shade += rng.normal(0, 0.18) * u[0] + rng.normal(0, 0.10) * u[1] - rng.uniform(0, 0.1) * u[0] * u[0]
    toned = 255 * (picture.clamp(0, 255) / 255) ** rng.uniform(0.8, 1.25)
    return (rng.uniform(0.75, 1.0) * toned * shade.exp() + rng.uniform(0, 25)).clamp(0, 250)
