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
from mol_fast.data.heads.light import normals, shades
from mol_fast.data.heads.person import Person
from mol_fast.data.heads.raster import Floats, Surface, draw
from mol_fast.vision.sizes import FRAME, PAIRS, interval

_THIN = 0.03  # decimetres by which a point may lie behind what is seen, and is still seen


class Motion(NamedTuple):
    """What moves in n frames: landmarks float32 (n, 68, 2), flow float16 (7 k, 2, 144, 144) from frame i to i + k,
    where k = n // 8, and visible bool (7 k, 144, 144): the point is seen in both frames."""

    landmarks: Tensor
    flow: Tensor
    visible: Tensor


class Drawn(NamedTuple):
    """Light scattered to the camera, float32 (n, side, side), and where there is a surface, bool."""

    light: Floats
    shown: npt.NDArray[np.bool_]


class Scene(NamedTuple):
    """What was drawn at the middles of pixels, 144 x 144, and at their corners, 145 x 145; and how it moves."""

    middles: Drawn
    corners: Drawn
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
    points, nearness = view.pixels.astype(np.float32), view.nearness.astype(np.float32)
    middles = draw(points, nearness, person.triangles, FRAME)
    corners = draw(points + np.float32(0.5), nearness, person.triangles, FRAME + 1)
    far = 1 / view.nearness[..., None]  # weights on a triangle hold in space, not in the picture
    landmarks = torch.from_numpy(person.landmarks.of(view.pixels * far) / person.landmarks.of(far)).float()
    return Scene(
        _lit(person, bright, middles, FRAME),
        _lit(person, bright, corners, FRAME + 1),
        Motion(landmarks, *_flow(view, middles)),
    )


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


def _lit(person: Person, bright: Floats, surface: Surface, side: int) -> Drawn:
    """Return the light that a surface scatters to the camera."""
    frames = bright.shape[1]
    height, width = person.texture.shape
    x, y = (surface.of(np.tile(place, frames)) for place in person.places.T)
    grid = torch.from_numpy(np.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], axis=-1))
    picture = torch.from_numpy(person.texture)[None, None]
    texels = torch.nn.functional.grid_sample(picture, grid[None, None], padding_mode="border", align_corners=True)
    brightness, shining = (surface.of(values.reshape(-1)) for values in bright)
    light = np.zeros((frames, side, side), np.float32)
    light.reshape(-1)[surface.samples] = texels[0, 0, 0].numpy() * brightness + shining
    shown = np.zeros((frames, side, side), bool)
    shown.reshape(-1)[surface.samples] = True
    return Drawn(light, shown)


def _flow(view: View, surface: Surface) -> tuple[Tensor, Tensor]:
    """Return flow and visibility, see `Motion`, of a surface that was drawn at the middles of pixels."""
    frames, count = view.nearness.shape
    step, pixels = interval(frames), FRAME * FRAME
    pairs = PAIRS * step
    distance = (1 / view.nearness).astype(np.float32)
    nearest = np.full(frames * pixels, np.inf, np.float32)  # distance of what every pixel shows
    nearest[surface.samples] = surface.of(distance.reshape(-1))

    first = slice(np.searchsorted(surface.samples, pairs * pixels))  # pixels of frames that have a later one
    samples = surface.samples[first]
    later = Surface(samples, surface.corners[:, first] + step * count, surface.weights[:, first])
    depth = later.of(distance.reshape(-1))
    x, y = (later.of((view.pixels[..., k] * distance).reshape(-1)) / depth for k in (0, 1))
    frame, row, column = np.unravel_index(samples, (pairs, FRAME, FRAME))
    flow = np.zeros((pairs, 2, FRAME, FRAME), np.float16)
    flow[frame, 0, row, column], flow[frame, 1, row, column] = x - column, y - row

    inside = (x >= 0) & (x <= FRAME - 1) & (y >= 0) & (y <= FRAME - 1)
    left, top = (np.clip(value, 0, FRAME - 2).astype(np.int64) for value in (x, y))
    corner = (frame + step) * pixels + top * FRAME + left
    around = [np.take(nearest, corner + offset) for offset in (0, 1, FRAME, FRAME + 1)]
    visible = np.zeros(pairs * pixels, bool)
    visible[samples] = inside & (depth < np.max(around, axis=0) + _THIN)
    background = np.isinf(nearest)
    visible |= background[: pairs * pixels] & background[step * pixels : (step + pairs) * pixels]
    return torch.from_numpy(flow), torch.from_numpy(visible.reshape(pairs, FRAME, FRAME))
