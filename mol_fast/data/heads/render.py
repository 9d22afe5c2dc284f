"""Render a head that moves: frames, and exactly how every visible point moves.

A pixel shows a point of a triangle. The point keeps its place on the triangle while the vertices move, so its flow
is exact: where it is seen later, less the pixel. Frames are drawn twice, at the middles and at the corners of pixels,
and a pixel is the mean of its middle and its corners; the middles tell the flow.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mol_fast.data.heads.actions import Expression, action_names, action_weights
from mol_fast.data.heads.assets import Array, load_head
from mol_fast.data.heads.camera import Pose, View, look
from mol_fast.data.heads.landmarks import landmark_vertices
from mol_fast.data.heads.light import normals, shades
from mol_fast.data.heads.person import Person
from mol_fast.data.heads.raster import Floats, Ints, Surface, draw
from mol_fast.vision.sizes import FRAME, PAIRS, interval

_SIDE = FRAME + 1  # samples: sample j of the first picture lies at pixel j, that of the second at j - 1 / 2
_THIN = 0.03  # decimetres by which a point may lie behind what is seen, and is still seen


class Motion(NamedTuple):
    """What moves in n frames: landmarks float32 (n, 68, 2), flow float16 (7 k, 2, 144, 144) from frame i to i + k,
    where k = n // 8, and visible bool (7 k, 144, 144): the point is seen in both frames."""

    landmarks: Tensor
    flow: Tensor
    visible: Tensor


class Scene(NamedTuple):
    """What was drawn.

    Attributes:
        light: float32 (2, n, 145, 145), light scattered to the camera: at the middles of pixels (the last row and
            column lie outside of the frame), and at the corners of pixels, from the top left one.
        shown: bool (2, n, 145, 145), where there is a surface.
        motion: how it moves.
    """

    light: Floats
    shown: npt.NDArray[np.bool_]
    motion: Motion


def render_scene(rng: np.random.Generator, person: Person, expression: Expression, pose: Pose, light: Array) -> Scene:
    """Render a person in n frames.

    Args:
        rng: source of the inexactness of the alignment.
        person, expression, pose: what is seen.
        light: see `draw_light`.
    """
    weights = action_weights(expression)
    actions = _actions()
    moved = (weights @ actions.reshape(len(actions), -1)).reshape(len(weights), -1, 3)
    head = person.vertices + moved
    things = np.broadcast_to(person.things, (len(head), *person.things.shape))
    view = look(np.concatenate([head, things], axis=1), pose, rng, FRAME)
    bright = _bright(person, view, light)
    middles, corners = (_draw(view, person, shift) for shift in (0.0, 0.5))
    shown = np.zeros((2, len(head) * _SIDE * _SIDE), bool)
    scattered = np.zeros(shown.shape, np.float32)
    for place, surface in enumerate((middles, corners)):
        shown[place, surface.samples] = True
        scattered[place, surface.samples] = _scattered(person, bright, surface)
    grid = 2, len(head), _SIDE, _SIDE
    landmarks = torch.from_numpy(view.pixels[:, landmark_vertices()]).float()
    flow, visible = _flow(view, middles)
    return Scene(scattered.reshape(grid), shown.reshape(grid), Motion(landmarks, flow, visible))


def _draw(view: View, person: Person, shift: float) -> Surface:
    points, nearness = (view.pixels + shift).astype(np.float32), view.nearness.astype(np.float32)
    return draw(points, nearness, person.triangles, _SIDE)


def _actions() -> Array:
    head = load_head()
    first = head.names.index(action_names()[0])
    return head.shapes[first : first + len(action_names())].astype(np.float64)


def _bright(person: Person, view: View, light: Array) -> Floats:
    """Return how bright white vertices are, and how much they shine: (2, n, V)."""
    count = len(person.vertices)
    facing = normals(view.space, person.triangles)
    result = np.zeros((2, *view.nearness.shape), np.float32)
    result[0] = shades(facing, light)
    half = np.array([light[3], light[1], light[2]]) / max(np.linalg.norm(light[1:4]), 1e-9) + [0, 0, 1]
    mirrored = np.maximum(facing[:, :count] @ (half / np.linalg.norm(half)), 0) ** 14
    result[1, :, :count] = person.gloss * mirrored * result[0, :, :count] * (load_head().parts == 0)
    return result


def _scattered(person: Person, bright: Floats, surface: Surface) -> Floats:
    """Return the light that the samples of a surface scatter to the camera."""
    frames = bright.shape[1]
    height, width = person.texture.shape
    x, y = (surface.of(np.tile(place, frames)) for place in person.places.T)
    grid = torch.from_numpy(np.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], axis=-1))
    picture = torch.from_numpy(person.texture)[None, None]
    texels = torch.nn.functional.grid_sample(picture, grid[None, None], padding_mode="border", align_corners=True)
    brightness, shining = (surface.of(values.reshape(-1)) for values in bright)
    return np.asarray(texels[0, 0, 0].numpy() * brightness + shining, np.float32)


def _flow(view: View, surface: Surface) -> tuple[Tensor, Tensor]:
    """Return flow and visibility, see `Motion`."""
    frames, count = view.nearness.shape
    step = interval(frames)
    pairs = PAIRS * step
    frame, row, column = _places(surface)
    inner = (frame < pairs) & (row < FRAME) & (column < FRAME)
    surface_of_pixels = surface.where(inner)
    frame, row, column = frame[inner], row[inner], column[inner]

    distance = 1 / view.nearness
    later = surface_of_pixels._replace(corners=surface_of_pixels.corners + step * count)
    depth = later.of(distance.reshape(-1).astype(np.float32))
    x, y = (later.of((view.pixels[..., k] * distance).reshape(-1)) / depth for k in (0, 1))

    flow = np.zeros((pairs, 2, FRAME, FRAME), np.float16)
    flow[frame, 0, row, column], flow[frame, 1, row, column] = x - column, y - row
    nearest = np.full(frames * _SIDE * _SIDE, 1e9, np.float32)  # distance of what every sample shows
    nearest[surface.samples] = surface.of(distance.reshape(-1).astype(np.float32))
    nearest = nearest.reshape(frames, _SIDE, _SIDE)
    inside = (x >= 0) & (x <= FRAME - 1) & (y >= 0) & (y <= FRAME - 1)
    left, top = (np.where(inside, value, 0).astype(np.int64) for value in (x, y))
    around = [nearest[frame + step, top + dy, left + dx] for dy in (0, 1) for dx in (0, 1)]
    visible = np.zeros((pairs, FRAME, FRAME), bool)
    visible[frame, row, column] = inside & (depth < np.max(around, axis=0) + _THIN)
    background = nearest[:, :FRAME, :FRAME] > 1e8
    visible |= background[:pairs] & background[step : step + pairs]
    return torch.from_numpy(flow), torch.from_numpy(visible)


def _places(surface: Surface) -> tuple[Ints, Ints, Ints]:
    """Return frame, row and column of samples."""
    frame, rest = np.divmod(surface.samples, _SIDE * _SIDE)
    row, column = np.divmod(rest, _SIDE)
    return frame, row, column
