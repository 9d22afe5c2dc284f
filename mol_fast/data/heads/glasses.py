"""Glasses: rims, bridge and temples as tubes that sit before the eyes of a head."""

import numpy as np

from mol_fast.data.heads.assets import Array
from mol_fast.data.heads.tubes import Mesh, tube

_AROUND = 40  # corners of a rim


def make_glasses(rng: np.random.Generator, marks: Array, ears: Array) -> Mesh:
    """Make glasses for a neutral face.

    Args:
        rng: source of all random numbers.
        marks: (68, 3), its landmarks in space.
        ears: (2, 3), the roots of its ears, on the left of the picture and on the right.
    """
    eyes = np.stack([marks[36:42].mean(0), marks[42:48].mean(0)])
    apart = eyes[1, 0] - eyes[0, 0]
    half = apart * np.array([rng.uniform(0.34, 0.44), rng.uniform(0.22, 0.36)])
    round_, thick = rng.uniform(2, 5), rng.uniform(0.008, 0.03)
    front = max(marks[27, 2], eyes[:, 2].max() + 0.08) + 0.06
    drop = rng.uniform(-0.02, 0.08)
    turn = np.arange(_AROUND) * (2 * np.pi / _AROUND)
    loop = np.stack([np.cos(turn), np.sin(turn)], -1)
    loop = np.sign(loop) * np.abs(loop) ** (2 / round_) * half
    tubes, inner, outer = [], [], []
    for eye, side in zip(eyes, (-1, 1), strict=True):
        bend = -0.12 * np.abs(loop[:, 0] + side * half[0]) ** 2
        rim = np.column_stack([eye[0] + 0.03 * side * apart + loop[:, 0], eye[1] - drop + loop[:, 1], front + bend])
        tubes.append(tube(rim, thick, closed=True))
        inner.append(rim[np.argmin(side * rim[:, 0])] + [0, 0.3 * half[1], 0])
        outer.append(rim[np.argmax(side * rim[:, 0])] + [0, 0.3 * half[1], 0])
    arch = np.linspace(inner[0], inner[1], 7) + np.array([0, 0.03, 0.02]) * np.sin(np.linspace(0, np.pi, 7))[:, None]
    tubes.append(tube(arch, thick, closed=False))
    for start, ear, side in zip(outer, ears, (-1, 1), strict=True):
        hinge = start + np.array([side * 0.03, 0, -0.06])
        end = np.array([ear[0] + side * 0.06, max(ear[1], start[1] - 0.15), ear[2]])
        tubes.append(tube(np.array([start, hinge, *np.linspace(hinge, end, 4)[1:]]), 0.8 * thick, closed=False))
    return Mesh.joined(tubes)
