"""The texture of a face: tone, mottles, freckles, wrinkles, lips, rims of lids, eyes, and skin of photographs."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from mol_fast.data.embedded.geometry import SmoothWarp, sample
from mol_fast.data.embedded.photographs import PHOTOGRAPHS, load_photograph
from mol_fast.data.heads.assets import Array
from mol_fast.data.heads.chart import EYE, PATCH, RIM, SKIN, TEETH, TONGUE, load_chart, noise, region, smooth
from mol_fast.data.heads.identity import AVERAGE, phenotype_vertices
from mol_fast.data.heads.landmarks import landmark_spots
from mol_fast.data.heads.raster import Floats
from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE

_OUTER_LIP = slice(48, 60)
_GLASSES = ("grace-hopper",)
"""Photographs of people who wear glasses."""


def paint_skin(rng: np.random.Generator, old: float, hairs: Floats, photographs: Sequence[str] = PHOTOGRAPHS) -> Floats:
    """Paint the texture (512, 640) of a person without hair: how much light it scatters, 0 to 1.

    Args:
        rng: source of all random numbers.
        old: age, see `Phenotype`.
        hairs: (512, 512), 0 where brows of a photograph are taken away, to be drawn anew; 1 elsewhere.
        photographs: names of the photographs whose skin may be used.
    """
    tone = float(np.exp(rng.uniform(np.log(0.16), np.log(0.75))))
    shade = np.zeros((SKIN, SKIN), np.float32)
    for texels, amount in ((2, 0.03), (6, 0.03), (20, 0.04), (70, 0.06)):
        shade += rng.uniform(0.3, 1.3) * amount * noise(rng, SKIN, SKIN, texels)
    shade += _spots(rng, int(rng.integers(0, 60) * rng.random()))
    shade += _wrinkles(rng, old)
    skins = [_photograph(name) for name in photographs]
    shares = rng.dirichlet([0.6] * len(skins)) * rng.choice([0, rng.uniform(0.3, 0.7), rng.uniform(0.7, 1)])
    drawn = np.ones((SKIN, SKIN), np.float32)
    for share, (detail, wide, inside) in zip(shares, skins, strict=True):
        turned = slice(None, None, -1) if rng.random() < 0.5 else slice(None)
        shade += share * (detail[:, turned] * hairs + rng.uniform(0.2, 0.8) * wide[:, turned])
        drawn -= share * inside[:, turned]
    shade += drawn * _features(rng)
    texture = np.zeros((SKIN, SKIN + PATCH), np.float32)
    texture[:, :SKIN] = tone * np.exp(shade)
    texture[:, SKIN:] = tone
    texture[EYE.first : EYE.last, SKIN:] = _eye(rng)
    texture[TEETH.first : TEETH.last, SKIN:] = rng.uniform(0.5, 0.95)
    texture[TONGUE.first : TONGUE.last, SKIN:] = 0.25
    texture[RIM.first : RIM.last, SKIN:] = rng.choice([0.03, 0.08, 0.2, 0.5])
    return np.clip(texture, 0.01, 0.95)


def _features(rng: np.random.Generator) -> Floats:
    """Return the logarithmic shade of lips, rims of lids and nostrils, for a face without photograph."""
    marks = load_chart().marks
    lips = region(marks[_OUTER_LIP], 1.5)
    shade = np.float32(rng.uniform(-0.6, 0.05)) * lips
    seam = region(np.concatenate([marks[60:65], marks[64:59:-1] + np.array([0, 1.5])]), 1.0)
    shade -= 0.5 * seam
    dark = rng.uniform(0.3, 1.3)
    for eye, sign in ((LEFT_EYE, -1), (RIGHT_EYE, 1)):
        rim = marks[eye]
        around = region((rim - rim.mean(0)) * 1.15 + rim.mean(0), 1.2)
        shade -= dark * around
        middle = rim.mean(0)
        shade -= rng.uniform(0, 0.25) * region((rim - middle) * [1.3, 2.4] + middle + [0, 3], 4)
        inner = rim[3 if sign < 0 else 0]
        shade -= 0.15 * region(np.array([[-6, -6], [6, -6], [6, 6], [-6, 6]]) + inner, 4)
    return shade


def _spots(rng: np.random.Generator, count: int) -> Floats:
    """Draw freckles and moles."""
    import cv2

    shade = np.zeros((SKIN, SKIN), np.float32)
    low, high = load_chart().marks.min(0), load_chart().marks.max(0)
    for _ in range(count):
        x, y = rng.uniform(low, high)
        radius = rng.uniform(0.6, 1.8)
        cv2.circle(
            shade, (round(x * 16), round(y * 16)), round(radius * 16), -rng.uniform(0.1, 0.6), -1, cv2.LINE_AA, 4
        )
    return smooth(shade, 0.8)


def _wrinkles(rng: np.random.Generator, old: float) -> Floats:
    """Draw folds of the forehead, beside the eyes, and from nose to mouth."""
    import cv2

    marks = load_chart().marks
    shade = np.zeros((SKIN, SKIN), np.float32)
    depth = old * rng.uniform(0.03, 0.2)
    for _ in range(int(rng.integers(2, 6) * old + 0.5)):
        x = np.linspace(marks[18, 0], marks[25, 0], 9) + rng.normal(0, 4)
        y = marks[19, 1] - rng.uniform(14, 75) + 6 * np.cos(np.linspace(-2, 2, 9)) + rng.normal(0, 1.2, 9)
        _line(shade, np.stack([x, y], 1), -depth)
    for side, (nose, mouth, eye) in ((-1, (31, 48, 36)), (1, (35, 54, 45))):
        fold = np.stack(
            [
                marks[nose] + [side * 4, -6],
                (marks[nose] + marks[mouth]) / 2 + [side * 7, 0],
                marks[mouth] + [side * 6, 4],
            ]
        )
        _line(shade, fold, -rng.uniform(0, 0.06) - 0.7 * depth)
        for _ in range(int(rng.integers(0, 5) * old)):
            start = marks[eye] + [side * 6, rng.uniform(-6, 8)]
            _line(shade, np.stack([start, start + np.array([side * rng.uniform(8, 18), rng.normal(0, 5)])]), -depth)
    return np.asarray(cv2.GaussianBlur(shade, (0, 0), 1.3), np.float32)


def _line(picture: Floats, points: Array, value: float) -> None:
    import cv2

    cv2.polylines(picture, [np.round(points * 16).astype(np.int32)], False, value, 2, cv2.LINE_AA, 4)


def _eye(rng: np.random.Generator) -> Floats:
    """Draw an eyeball, seen along its axis."""
    y, x = np.mgrid[:PATCH, :PATCH].astype(np.float32) - (PATCH - 1) / 2
    radius = np.hypot(x, y) / (PATCH / 2 - 4)
    iris, pupil = 0.38 * rng.uniform(0.95, 1.05), 0.38 * rng.uniform(0.28, 0.55)
    picture = rng.uniform(0.35, 0.6) * (1 - 0.6 * np.clip(radius - iris, 0, 1)) * (
        1 + 0.25 * np.clip(y / PATCH, -1, 1)
    ) + 0.015 * noise(rng, PATCH, PATCH, 5)
    streaks = noise(rng, 8, PATCH, 2)[4][((np.arctan2(y, x) / np.pi + 1) / 2 * (PATCH - 1)).astype(int)]
    shade = (
        np.exp(rng.uniform(-3.2, -1.6))
        * (1 + 0.15 * streaks)
        * (1 - 0.5 * np.clip((radius - iris + 0.08) / 0.08, 0, 1))
    )

    def inside(edge: float) -> Floats:
        return np.clip((edge - radius) / 0.04 + 0.5, 0, 1)

    picture += inside(iris) * (shade - picture)
    picture += inside(pupil) * (0.02 - picture)
    glint = np.hypot(x - PATCH * rng.uniform(-0.12, 0.12), y + PATCH * rng.uniform(0.04, 0.12))
    picture += np.clip(3.2 - glint, 0, 1) * (rng.uniform(0.4, 0.9) - picture)
    return np.asarray(picture, np.float32)


@cache
def _photograph(name: str) -> tuple[Floats, Floats, Floats]:
    """Return the logarithmic shade of a photographed face on the chart: fine detail, what is wider than 1 cm, where.

    The photograph is laid on the average head so that the landmarks meet. Glasses are left out.
    """
    chart, photograph = load_chart(), load_photograph(name)
    marks = chart.marks
    face = np.concatenate([marks[:17], marks[[26, 24, 19, 17]] - [[0, 6], [0, 32], [0, 32], [0, 6]]])
    inside = region(face, 0) * (chart.ahead > 0.3)
    inside = np.clip(smooth(inside.astype(np.float32), 9) * 2 - 1, 0, 1)
    average = landmark_spots(chart.spots(marks[17:27])).of(phenotype_vertices(AVERAGE))
    warp = SmoothWarp(_from_afar(average), photograph.landmarks, stiffness=800.0)
    texels = inside > 0
    grid = warp(_from_afar(chart.points[texels]))
    picture = sample(photograph.picture[None, None], grid[None], "bicubic")[0, 0].numpy()
    shade = np.zeros((SKIN, SKIN), np.float32)
    shade[texels] = np.log(np.clip(picture, 12, 255) / 255)
    wide = smooth(shade * inside, 14) / np.maximum(smooth(inside, 14), 1e-3)
    mean = float((wide * inside).sum() / inside.sum())
    if name in _GLASSES:
        eyes = marks[[17, 19, 24, 26, 15, 45, 46, 35, 31, 41, 36, 1]] + np.array([[0, -8]] * 4 + [[0, 12]] * 8)
        inside = inside * (1 - region(eyes, 5))
    detail, rest, where = (
        np.asarray(part, np.float32) for part in ((shade - wide) * inside, (wide - mean) * inside, inside)
    )
    return detail, rest, where


def _from_afar(points: Array) -> torch.Tensor:
    """Return where a camera at a distance of a metre sees points (P, 3): (P, 2), in millimetres, y down."""
    plane = points[:, :2] * [100, -100] * (10 / (11 - points[:, 2:]))
    return torch.from_numpy(plane)
