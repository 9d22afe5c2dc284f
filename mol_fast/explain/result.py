"""An explanation: where the model looks, where the face moves, and the sentence about it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.explain.units import Unit
from mol_fast.spotting.moved import Region

ELSEWHERE = "elsewhere"
"""Name of all cells outside the regions of the face."""

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
    times: npt.NDArray[np.float32] | None
    regions: dict[str, dict[str, float]] | None
    moved: tuple[Region, ...] | None
    units: tuple[Unit, ...] | None
    sentence: str | None
    channels: tuple[Channel, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "class": self.label,
            "probability": round(self.probability, 6),
            "sentence": self.sentence,
            "units": _rows(self.units),
            "moved": _rows(self.moved),
            "regions": self.regions and {
                method: {name: round(share, 4) for name, share in shares.items()}
                for method, shares in self.regions.items()
            },
            "frames": None if self.times is None else _rounded(self.times),
            "places": {method: _rounded(places) for method, places in self.places.items()},
            "channels": _rows(self.channels),
        }  # fmt: skip


def _rows(items: tuple[Any, ...] | None) -> list[dict[str, Any]] | None:
    if items is None:
        return None
    rows = [asdict(item) for item in items]
    return [{k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _rounded(values: Map) -> Any:
    return np.round(values.astype(float), 5).tolist()
