"""A person: shape of the head, texture, hair and glasses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mol_fast.data.embedded.photographs import PHOTOGRAPHS, check_photographs
from mol_fast.data.heads.assets import Array, load_head
from mol_fast.data.heads.chart import RIM, SKIN, STRANDS, load_chart, smooth
from mol_fast.data.heads.glasses import make_glasses
from mol_fast.data.heads.hair import draw_hair
from mol_fast.data.heads.identity import draw_changes, draw_phenotype, phenotype_vertices
from mol_fast.data.heads.landmarks import Spots, landmark_spots, landmark_vertices
from mol_fast.data.heads.light import normals
from mol_fast.data.heads.long_hair import make_long_hair
from mol_fast.data.heads.raster import Floats, Ints
from mol_fast.data.heads.skin import paint_skin
from mol_fast.data.heads.tubes import Mesh

_GLASSES = 0.3  # share of people with glasses


class Person(NamedTuple):
    """A neutral head of V vertices, and G of what moves with it as one: glasses, long hair.

    Attributes:
        vertices: float64 (V, 3), in decimetres from the middle between the eyes; y is up, z forward.
        things: float64 (G, 3).
        triangles: int64 (F, 3), counter-clockwise from outside; things come after the head.
        places: float32 (V + G, 2), (x, y) in texels of the texture.
        texture: float32 (512, 640), how much light a texel scatters, 0 to 1.
        gloss: how much the skin shines.
        landmarks: the 68 landmarks, as points of triangles of the head.
    """

    vertices: Array
    things: Array
    triangles: Ints
    places: Floats
    texture: Floats
    gloss: float
    landmarks: Spots


def make_person(rng: np.random.Generator, photographs: Sequence[str] = PHOTOGRAPHS) -> Person:
    """Draw a person.

    Args:
        rng: source of all random numbers.
        photographs: see `paint_skin`.

    Raises:
        UserError: anny, scikit-image or matplotlib is not installed.
        ValueError: there is no such photograph.
    """
    check_photographs(photographs)
    head, chart = load_head(), load_chart()
    phenotype = draw_phenotype(rng)
    bare = phenotype_vertices(phenotype) + draw_changes(rng)
    bare -= bare[landmark_vertices()[36:48]].mean(0)
    bare *= (
        0.615 / np.diff(bare[landmark_vertices()[[36, 45]], 0])[0] * 1.45
    )  # eyes of all people are about equally apart
    hair = draw_hair(rng, phenotype.male, phenotype.old)
    texture = paint_skin(rng, phenotype.old, hair.kept, photographs)
    skin = texture[:, :SKIN]
    texture[:, :SKIN] = skin + hair.cover * (hair.shade - skin)
    texel = np.clip(chart.places.round().astype(int), 0, SKIN - 1)
    scalp = (head.parts == 0) & ~chart.ears
    lift = np.where(scalp, hair.height[texel[:, 1], texel[:, 0]], 0)
    vertices = bare + lift[:, None] * normals(bare[None], head.triangles)[0]
    meshes, places = [Mesh(vertices, head.triangles)], [chart.places]
    ears = np.stack([bare[chart.ears & (side * bare[:, 0] > 0)].mean(0) for side in (-1, 1)])
    if rng.random() < _GLASSES:
        meshes.append(make_glasses(rng, bare[landmark_vertices()], ears))
        places.append(np.tile(RIM.middle, (len(meshes[-1].vertices), 1)))
    if rng.random() < 0.65 - 0.6 * phenotype.male:
        texture[STRANDS.first : STRANDS.last, SKIN:] = hair.strands
        mesh, of_hair = make_long_hair(rng, vertices[scalp & (bare[:, 1] > ears[0, 1] - 0.3)], ears)
        meshes.append(mesh)
        places.append(of_hair)
    texture = smooth(texture, 1.0)  # no detail finer than a pixel, which would flicker
    whole = Mesh.joined(meshes)
    things = whole.vertices[len(vertices) :]
    spots = np.concatenate(places).astype(np.float32)
    gloss = float(rng.uniform(0, 0.25))
    return Person(vertices, things, whole.triangles, spots, texture, gloss, landmark_spots(chart.spots(hair.brows)))
