"""Draw triangles: which triangle each sample of a picture shows, and where on it. A z-buffer in NumPy."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_KEY = 62  # bits of a key: depth above, triangle below


class Surface(NamedTuple):
    """The S samples of n pictures that show a surface.

    Attributes:
        samples: int64 (S,), index into the n * side * side samples of all pictures, ascending.
        corners: int64 (3, S), the vertices of the triangle, as index into the n * V vertices of all pictures.
        weights: float32 (3, S), where on the triangle: the weights of its vertices in space, sum 1.
    """

    samples: Ints
    corners: Ints
    weights: Floats

    def of(self, values: npt.NDArray[np.floating]) -> Floats:
        """Interpolate values (n * V,) of vertices at the samples: (S,)."""
        a, b, c = (np.take(values, corner) * weight for corner, weight in zip(self.corners, self.weights, strict=True))
        a += b
        a += c
        return np.asarray(a, np.float32)


def draw(points: Floats, nearness: Floats, triangles: Ints, side: int) -> Surface:
    """Find what every sample shows: the nearest triangle that faces the camera.

    Args:
        points: (n, V, 2), (x, y) of vertices in samples: sample (i, j) lies at x = j, y = i.
        nearness: (n, V), 1 / distance along the axis of the camera, positive.
        triangles: (F, 3), counter-clockwise to the eye if they face the camera.
        side: width and height of a picture in samples.
    """
    low, high = float(nearness.min()), float(nearness.max())
    parts = []
    for picture, (x, y) in enumerate(np.ascontiguousarray(points.transpose(0, 2, 1))):
        near = (nearness[picture] - low) / max(high - low, 1e-9)
        surface = _draw_one(x, y, near.astype(np.float64), nearness[picture], triangles, side)
        first, count = picture * side * side, points.shape[1]
        parts.append(Surface(surface.samples + first, surface.corners + picture * count, surface.weights))
    samples, corners, weights = zip(*parts, strict=True)
    return Surface(np.concatenate(samples), np.concatenate(corners, axis=1), np.concatenate(weights, axis=1))


def _draw_one(
    x: Floats, y: Floats, depth: npt.NDArray[np.float64], near: Floats, triangles: Ints, side: int
) -> Surface:
    """Draw one picture. `depth` is nearness, scaled to 0 to 1."""
    corners = _facing(x, y, triangles, side)
    (ax, bx, cx), (ay, by, cy) = x.astype(np.float64)[corners], y.astype(np.float64)[corners]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    # changes of the weights of b and c across and down
    b_across, b_down, c_across, c_down = (cy - ay) / area, (ax - cx) / area, (ay - by) / area, (bx - ax) / area
    a, b, c = depth[corners]
    across, down = (b - a) * b_across + (c - a) * c_across, (b - a) * b_down + (c - a) * c_down

    owner, row, left, width = _spans(x, y, corners, side)
    bits = max(corners.shape[1] - 1, 1).bit_length()
    scale = float((1 << (_KEY - bits)) - 1)
    start = (a - across * ax - down * ay)[owner] + across[owner] * left + down[owner] * row
    ends = np.cumsum(width)
    steps = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - width, width)
    at = np.repeat(start, width) + np.repeat(across[owner], width) * steps
    key = (np.clip(at, 0, 1) * scale).astype(np.int64) << bits
    key |= np.repeat(owner, width)
    best = np.full(side * side, -1, dtype=np.int64)
    np.maximum.at(best, np.repeat(row * side + left, width) + steps, key)

    samples = np.flatnonzero(best >= 0)
    shown = best[samples] & ((1 << bits) - 1)

    def take(values: npt.NDArray[np.float64]) -> Floats:
        return np.take(values.astype(np.float32), shown)

    right, under = (samples % side).astype(np.float32) - take(ax), (samples // side).astype(np.float32) - take(ay)
    of_b = np.maximum(right * take(b_across) + under * take(b_down), 0)
    of_c = np.maximum(right * take(c_across) + under * take(c_down), 0)
    seen = np.take(corners, shown, axis=1)
    weights = np.stack([np.maximum(1 - of_b - of_c, 0), of_b, of_c])
    weights *= np.take(near, seen)  # from weights in the picture to weights in space
    weights /= weights.sum(0)
    return Surface(samples, seen, weights)


def _facing(x: Floats, y: Floats, triangles: Ints, side: int) -> Ints:
    """Return the corners (3, T) of the triangles that face the camera and touch the picture."""
    corners = np.ascontiguousarray(triangles.T)
    (ax, bx, cx), (ay, by, cy) = x[corners], y[corners]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    seen = area < -1e-4
    for a, b, c in ((ax, bx, cx), (ay, by, cy)):
        seen &= np.maximum(np.maximum(a, b), c) >= 0
        seen &= np.minimum(np.minimum(a, b), c) <= side - 1
    return np.ascontiguousarray(corners[:, seen])


def _spans(x: Floats, y: Floats, corners: Ints, side: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the rows of triangles: triangle, row, first column and number of columns of each.

    A side that two triangles share is cut from the same vertex for both, so no sample falls between them.
    """
    heights = y[corners]
    first = np.maximum(np.ceil(heights.min(0)), 0).astype(np.int64)
    last = np.minimum(np.floor(heights.max(0)), side - 1).astype(np.int64)
    kept = np.flatnonzero(last >= first)
    corners, first, rows = corners[:, kept], first[kept], (last - first + 1)[kept]
    place = np.repeat(np.arange(len(kept)), rows)
    row = np.arange(len(place)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    level = row.astype(np.float32)
    left = np.full(len(place), np.inf, np.float32)
    right = np.full(len(place), -np.inf, np.float32)
    for k in range(3):
        p, q = corners[k], corners[(k + 1) % 3]
        p, q = np.minimum(p, q), np.maximum(p, q)
        rise = y[q] - y[p]
        slope = (x[q] - x[p]) / np.where(rise == 0, np.float32(np.inf), rise)
        cut = np.take(slope, place) * (level - np.take(y[p], place)) + np.take(x[p], place)
        low, high = np.minimum(y[p], y[q]), np.maximum(y[p], y[q])
        missed = (level < np.take(low, place)) | (level > np.take(high, place)) | np.take(rise == 0, place)
        np.minimum(left, np.where(missed, np.float32(np.inf), cut), out=left)
        np.maximum(right, np.where(missed, np.float32(-np.inf), cut), out=right)
    begin = np.ceil(np.clip(left, 0, side)).astype(np.int64)
    width = np.floor(np.clip(right, -1, side - 1)).astype(np.int64) - begin + 1
    wide = np.flatnonzero(width > 0)
    return kept[place[wide]], row[wide], begin[wide], width[wide]
