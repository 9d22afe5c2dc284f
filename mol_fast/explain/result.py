"""An explanation: where the model looks, where the face moves, and the sentence about it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.explain.units import Unit
from mol_fast.spotting.moved import Region

ELSEWHERE = "elsewhere"
"""Name of all cells outside the regions of the face."""

METHOD = "Grad-CAM, mean of both F5C blocks"
"""The attribution that reports, tables and videos show."""
BLOCKS = ("first block", "second block")

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Channel:
    """A channel that others choose as their neighbour in CCC.

    Attributes:
        block: "first" or "second".
        channel: its number.
        chosen_by: mean number of channels that choose it, over pairs.
        choosers: those that choose it most often, at most five.
        region: region where it moves most; None without landmarks.
    """

    block: str
    channel: int
    chosen_by: float
    choosers: tuple[int, ...]
    region: str | None


@dataclass(frozen=True)
class Explanation:
    """Why a class was predicted for a window, or for a clip (means over its windows).

    Attributes:
        label, probability: the class that is explained, and its probability.
        places: a map (16, 16) for each of `METHODS`: the share of each cell of 8 pixels of the crop. Sums to 1 or 0.
        pairs: (7,), share of each pair of frames in `METHOD`. Sums to 1 or 0.
        times: (8,), share of each frame in the integrated gradients; None if they were not asked for.
        regions: the share of each facial region, and of `ELSEWHERE`, in each map; None if the weights predict no
            landmarks.
        moved: regions that moved in the predicted flow, strongest first; None if the weights lack flow or landmarks.
        units: action units that explain this motion.
        sentence: both in words.
        channels: the most chosen channels of CCC; empty for the variant "official", whose nodes are positions.
    """

    label: str
    probability: float
    places: dict[str, Map]
    pairs: Map
    times: npt.NDArray[np.float32] | None
    regions: dict[str, dict[str, float]] | None
    moved: tuple[Region, ...] | None
    units: tuple[Unit, ...] | None
    sentence: str | None
    channels: tuple[Channel, ...]

    @property
    def attribution(self) -> Map:
        """The share (16, 16) of each cell in `METHOD`."""
        return np.asarray(np.mean([self.places[block] for block in BLOCKS], axis=0))

    @property
    def shares(self) -> dict[str, float] | None:
        """The share of each facial region, and of `ELSEWHERE`, in `METHOD`; None without landmarks."""
        if self.regions is None:
            return None
        first, second = (self.regions[block] for block in BLOCKS)
        return {name: (first[name] + second[name]) / 2 for name in first}

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: the class, what moved its score, and what moved in the face."""
        return {
            "class": self.label,
            "probability": round(self.probability, 6),
            "method": METHOD,
            "attribution": _rounded(self.attribution),
            "pairs": _rounded(self.pairs),
            "shares": None if self.shares is None else _named(self.shares),
            "sentence": self.sentence,
            "units": _rows(self.units),
            "moved": _rows(self.moved),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the `summary`, and what it is made of."""
        return self.summary() | {
            "regions": self.regions and {method: _named(shares) for method, shares in self.regions.items()},
            "frames": None if self.times is None else _rounded(self.times),
            "places": {method: _rounded(places) for method, places in self.places.items()},
            "channels": _rows(self.channels),
        }


def _rows(items: tuple[Any, ...] | None) -> list[dict[str, Any]] | None:
    if items is None:
        return None
    rows = [asdict(item) for item in items]
    return [{k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _named(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _rounded(values: Map) -> Any:
    return np.round(values.astype(float), 5).tolist()
