"""Hair of a person: brows, beard and hair on the chart, and how far hair stands off the head."""

from typing import Any, NamedTuple

import numpy as np

from mol_fast.data.heads.assets import Array
from mol_fast.data.heads.chart import PATCH, SKIN, STRANDS, load_chart, noise, region, smooth
from mol_fast.data.heads.raster import Floats


class Hair(NamedTuple):
    """Hair of a person.

    Attributes:
        kept: (512, 512), how much of a photograph's detail stays on the skin: not its brows, where new ones are drawn.
        cover: (512, 512), how much hair covers the skin, 0 to 1.
        shade: (512, 512), how much light the hair scatters.
        height: (512, 512), how far the hair of the head stands off the skin, in decimetres.
        strands: (256, 128), how much light long hair scatters.
        brows: float64 (10, 2), where the landmarks of the brows are on the chart.
    """

    kept: Floats
    cover: Floats
    shade: Floats
    height: Floats
    strands: Floats
    brows: Array


def draw_hair(rng: np.random.Generator, male: float, old: float) -> Hair:
    """Draw brows, beard and hair of the head.

    Args:
        rng: source of all random numbers.
        male, old: see `Phenotype`.
    """
    tone = rng.uniform(0.35, 0.8) if rng.random() < 0.8 * old**2 else float(np.exp(rng.uniform(-3.7, -0.9)))
    fine = noise(rng, SKIN, SKIN, 2) * 0.25 + noise(rng, SKIN, SKIN, 12) * 0.15
    shade = np.asarray(np.clip(tone * np.exp(fine), 0.01, 0.9), np.float32)
    drawn, brows, marks = _brows(rng, male)
    beard = _beard(rng) if rng.random() < 0.5 * male else np.zeros_like(brows)
    cap, height = _cap(rng, male, old)
    cover = 1 - (1 - drawn * brows) * (1 - beard) * (1 - cap)
    kept = 1 - drawn * smooth((brows > 0.05).astype(np.float32), 6)
    strands = tone * np.exp(0.45 * noise(rng, STRANDS.last - STRANDS.first, PATCH, 3)[64:65] + np.zeros((256, 1)))
    return Hair(kept, cover, shade, height, np.clip(strands, 0.01, 0.9).astype(np.float32), marks)


def _brows(rng: np.random.Generator, male: float) -> tuple[float, Floats, Array]:
    """Return whether brows are drawn, 0 or 1, where, on the chart, and their landmarks (10, 2) there."""
    marks = load_chart().marks
    cover = np.zeros((SKIN, SKIN), np.float32)
    thick = rng.uniform(2, 4) + 3 * male * rng.uniform(0.3, 1)
    lift, arch, tilt, apart = rng.normal([2.5, 0, 2, 0], [3, 3.5, 4, 2.5])  # texels, up and to the temples
    dense = rng.uniform(0.6, 1.2)

    def raised(along: Any) -> Any:
        """Return how far a brow is raised, in texels, from 0 at the temple to 1 at the nose."""
        return lift + arch * np.sin(np.pi * along) + tilt * (2 * along - 1)

    for brow, side in ((marks[17:22], -1), (marks[26:21:-1], 1)):
        for _ in range(int(130 * dense)):
            along = rng.beta(1.3, 1.0)
            place = along * 4
            first = min(int(place), 3)
            root = brow[first] + (place - first) * (brow[first + 1] - brow[first])
            wide = thick * (0.35 + 0.65 * along)
            root = root + np.array([side * apart, 3 - raised(along) + rng.normal(0, 0.45) * wide])
            lean = np.array([side * (1.2 - along), -0.25 - 0.9 * along**3])
            _stroke(cover, root, root + lean * rng.uniform(4, 9), rng.uniform(0.4, 0.95))
    wanted = 1.0 if rng.random() < 0.75 else 0.0
    moved = np.stack([np.full(5, -apart), -raised(np.linspace(0, 1, 5))], axis=1)
    found = marks[17:27] + wanted * np.concatenate([moved, moved[::-1] * [-1, 1]])  # both brows are mirror images
    return wanted, np.clip(smooth(cover, 0.8) * 1.1, 0, 0.95), found


def _beard(rng: np.random.Generator) -> Floats:
    """Return a stubble, moustache, goatee or full beard."""
    marks = load_chart().marks
    dense = rng.choice([rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.95)])
    parts = rng.choice(["full", "moustache", "goatee", "both"], p=[0.55, 0.15, 0.1, 0.2])
    lip, mouth = marks[48:60], np.zeros((SKIN, SKIN), np.float32)
    if parts != "goatee":
        above = np.stack([marks[31] + [-4, 9], marks[33] + [0, 7], marks[35] + [4, 9], marks[54] + [5, 2]])
        mouth = np.maximum(mouth, region(np.concatenate([above, marks[[53, 51, 49]], [marks[48] + [-5, 2]]]), 2.5))
    if parts != "moustache":
        wide = 1.0 if parts == "full" else rng.uniform(0.15, 0.3)
        chin = marks[3:14].copy()
        chin[:, 0] = marks[8, 0] + (chin[:, 0] - marks[8, 0]) * wide
        low = chin[::-1] + np.array([0, 45])
        corner = [marks[54] + [9 * wide, 0], marks[48] + [-9 * wide, 0]]
        cheeks = [marks[13] + [4, -30], marks[54] + [22, -2], *corner, marks[48] + [-22, -2], marks[3] + [-4, -30]]
        outline = np.concatenate([chin, low]) if wide < 1 else np.concatenate([cheeks, chin, low])
        if wide < 1:
            outline = np.concatenate(
                [[marks[56] + [12 * wide + 8, 4], marks[58] - [12 * wide + 8, -4]], chin[3:8], low[3:8]]
            )
            outline = outline[np.argsort(np.arctan2(*(outline - outline.mean(0)).T))]
        mouth = np.maximum(mouth, region(outline, 4))
    mouth *= 1 - region((lip - lip.mean(0)) * 1.02 + lip.mean(0), 1.2)
    bristle = 0.85 + 0.15 * noise(rng, SKIN, SKIN, 2) + 0.1 * noise(rng, SKIN, SKIN, 9)
    return np.clip(mouth * dense * np.clip(bristle, 0.3, 1.2), 0, 0.95)


def _cap(rng: np.random.Generator, male: float, old: float) -> tuple[Floats, Floats]:
    """Return cover and height of the hair of the head."""
    marks = load_chart().marks
    y, x = np.mgrid[:SKIN, :SKIN].astype(np.float32)
    middle = marks[27, 0]
    aside = np.abs(x - middle) / (marks[16, 0] - middle)  # 0 in the middle, 1 at the ears
    brow = marks[19, 1]
    temple = marks[0, 1]
    bald = rng.random() < 0.12 * male * (1 + old)
    high = rng.uniform(45, 85) + 25 * male * old * rng.random()
    peak, corner = rng.normal(0, 5), rng.uniform(0, 14) * (1 + male * old)
    front = brow - high + peak * np.exp(-((aside / 0.15) ** 2)) - corner * np.exp(-(((aside - 0.45) / 0.15) ** 2))
    side = temple + rng.uniform(-25, 45)
    edge = rng.uniform(0.78, 0.88)
    line = front + (side - front) / (1 + np.exp(-(aside - edge) / 0.035))
    if not bald and rng.random() < 0.25 * (1.2 - male):  # a fringe
        hem = brow - rng.uniform(8, 35) + 2 * noise(rng, SKIN, SKIN, 12)[0]
        line = np.maximum(line, np.where(aside < rng.uniform(0.5, 0.75), hem, line))
    line = line + rng.uniform(0.5, 2) * noise(rng, SKIN, SKIN, 3)[0] + rng.uniform(0, 4) * noise(rng, SKIN, SKIN, 40)[0]
    soft = rng.uniform(3, 12)
    cover = np.clip((line - y) / soft + 0.5, 0, 1)
    if bald:
        cover *= np.clip((aside - rng.uniform(0.6, 0.8)) / 0.1, 0, 1) * rng.uniform(0, 1)
    thick = rng.choice([rng.uniform(0.0, 0.05), rng.uniform(0.05, 0.15), rng.uniform(0.15, 0.4)])
    bumpy = np.clip(1 + rng.uniform(0, 0.25) * noise(rng, SKIN, SKIN, 60), 0.4, 1.6)
    height = thick * np.clip((line - y) / 45, 0, 1) ** 0.7 * bumpy * (0 if bald else 1)
    dense = rng.uniform(0.75, 0.98)
    return np.asarray(dense * cover, np.float32), np.asarray(height, np.float32)


def _stroke(picture: Floats, start: Array, end: Array, value: float) -> None:
    import cv2

    ends = [tuple(np.round(point * 16).astype(int).tolist()) for point in (start, end)]
    cv2.line(picture, ends[0], ends[1], value, 1, cv2.LINE_AA, 4)
