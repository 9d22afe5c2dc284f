"""The official network's weights and inputs, drawn by name, and the numbers it gave (tests/golden)."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parents[1] / "golden"


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    g = np.random.default_rng([0, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        return torch.from_numpy(np.asarray(g.uniform(0.5, 1.5, shape), np.float32))
    z = g.standard_normal(shape)
    if len(shape) >= 2:
        z /= np.sqrt(np.prod(shape[1:]))
    elif name.endswith("weight"):
        z = 1 + 0.1 * z
    else:
        z = 0.1 * z
    return torch.from_numpy(np.asarray(z, np.float32))


def tensor(tag: str, shape: tuple[int, ...]) -> Tensor:
    """Input `tag`, standard normal."""
    g = np.random.default_rng([0, zlib.crc32(tag.encode())])
    return torch.from_numpy(g.standard_normal(shape).astype(np.float32))


def official_weights(num_classes: int = 5) -> dict[str, Tensor]:
    shapes = {name: tuple(shape) for name, shape in json.loads((DATA / "official_state_dict.json").read_text()).items()}
    for name in ("mer_3dcnn.fc2.weight", "mer_3dcnn.fc2.bias"):
        shapes[name] = (num_classes, *shapes[name][1:])
    return {name: weight(name, shape) for name, shape in shapes.items()}


def load(file: str) -> dict[str, Tensor]:
    with np.load(DATA / file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}


def landmarks_target() -> Tensor:
    """`(2, 8, 68, 2)` from the golden's `(2, 136, 8)`."""
    g = np.random.default_rng([0, zlib.crc32(b"mol.train.landmarks")])
    flat = torch.from_numpy(g.uniform(0, 128, (2, 136, 8)).astype(np.float32))
    return flat.permute(0, 2, 1).unflatten(2, (68, 2)).contiguous()
