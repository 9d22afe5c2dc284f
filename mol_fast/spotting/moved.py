"""The regions of a face that moved."""

from dataclasses import dataclass

import numpy as np

from mol_fast.spotting.regions import EXPRESS, REGIONS, Array

_MOVES = 0.5  # a region has moved if it moves by this share of the strongest
_DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")


@dataclass(frozen=True)
class Region:
    """A region of the face that moved; left and right are those of the picture.

    Attributes:
        name: see `REGIONS`.
        x, y: displacement from onset to apex to the right and down, in per cent of the distance of the eyes.
    """

    name: str
    x: float
    y: float

    @property
    def direction(self) -> str:
        """One of eight directions: up, up right, right and so on."""
        return _DIRECTIONS[round(np.arctan2(self.y, self.x) / (np.pi / 4)) % 8]

    def __str__(self) -> str:
        return f"{self.name} {self.direction}"


def strength_of(motion: Array) -> float:
    """Return the displacement of the expressing region that moves most, in the unit of `motion (regions, 2)`."""
    return float(np.linalg.norm(motion[EXPRESS], axis=-1).max())


def moved_regions(motion: Array) -> tuple[Region, ...]:
    """Return the regions that moved at least half as much as the expressing one that moved most, strongest first.

    Args:
        motion: (regions, 2), displacements in distances of the eyes.
    """
    sizes = np.linalg.norm(motion, axis=-1)
    moved = [place for place in np.argsort(-sizes) if sizes[place] >= _MOVES * strength_of(motion)]
    return tuple(Region(REGIONS[place], *(100 * motion[place]).tolist()) for place in moved)
