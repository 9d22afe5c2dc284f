"""From light to grey frames: background, exposure, blur, noise, compression."""

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.embedded.motion import drift
from mol_fast.data.heads.chart import noise, smooth
from mol_fast.data.heads.raster import Floats
from mol_fast.data.heads.render import Scene
from mol_fast.vision.sizes import FRAME


def photograph(rng: np.random.Generator, scene: Scene) -> Tensor:
    """Return the frames, uint8 (n, 144, 144), that a camera takes of a scene."""
    frames = len(scene.middles.light)
    gamma = rng.uniform(0.45, 0.8)
    wanted = rng.uniform(0.32, 0.72) ** (1 / gamma)
    exposure = wanted / max(float(scene.middles.light[0][scene.middles.shown[0]].mean()), 1e-3)
    time = np.arange(frames) / max(frames - 1, 1)
    flicker = (1 + drift(rng, time, 0.015)).astype(np.float32)[:, None, None]
    behind = _background(rng, 2 * FRAME + 2)
    places = (scene.middles, behind[1:-1:2, 1:-1:2]), (scene.corners, behind[::2, ::2])
    middles, corners = (np.where(drawn.shown, drawn.light * np.float32(exposure), wall) for drawn, wall in places)
    display = np.clip(mean_of_samples(middles, corners) * flicker, 0, 1) ** np.float32(gamma)
    low, high = rng.uniform(0, 0.12), rng.uniform(0.85, 1.0)
    grey = 255 * (low + (high - low) * display)
    blur = rng.choice([0.0, rng.uniform(0.3, 0.6), rng.uniform(0.4, 1.1)])
    if blur:
        grey = np.stack([smooth(frame, blur) for frame in grey])
    sensor = rng.uniform(0.4, 2.5) if rng.random() < 0.8 else rng.uniform(2, 6)
    grey += sensor * rng.standard_normal(grey.shape, dtype=np.float32)
    result = np.clip(np.round(grey), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(35, 96))
        result = np.stack([_compressed(frame, quality) for frame in result])
    return torch.from_numpy(result)


def mean_of_samples(middles: Floats, corners: Floats) -> Floats:
    """Return pixels (n, 144, 144): half their middle, half their four corners."""
    rows = corners[:, :-1] + corners[:, 1:]
    return np.asarray(0.5 * middles + 0.125 * (rows[..., :-1] + rows[..., 1:]), np.float32)


def _background(rng: np.random.Generator, side: int) -> Floats:
    """Draw a wall, a room out of focus, or a plain cloth, as light (side, side), two samples per pixel."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
    tone = float(np.exp(rng.uniform(-4, 0.2)))
    shade = rng.normal(0, 0.6) * x + rng.normal(0, 0.6) * y + rng.uniform(0, 0.4) * noise(rng, side, side, side / 3)
    for _ in range(int(rng.integers(0, 9))):  # furniture, doors, windows
        left, top = rng.uniform(-0.6, 0.5, 2)
        right, bottom = left + rng.uniform(0.03, 0.6), top + rng.uniform(0.05, 1.0)
        shade += rng.normal(0, 0.8) * ((x > left) & (x < right) & (y > top) & (y < bottom))
    shade += rng.uniform(0, 0.25) * noise(rng, side, side, rng.uniform(3, 30))
    return smooth(tone * np.exp(shade.astype(np.float32)), rng.uniform(1.5, 9))


def _compressed(frame: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8).reshape(FRAME, FRAME)
