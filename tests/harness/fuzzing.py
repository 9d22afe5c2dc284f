"""Damaged and hostile files of every format that is read. A case is one file changed at random, and read.

A reader must accept the file or raise `UserError`. A flipped bit in a file with a digest must not be accepted.
"""

import codecs
import csv
import io
import json
import random
import shutil
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mol_fast.utils.errors import UserError
from mol_fast.utils.sealed import pack, unpack

REFUSED, ACCEPTED, FLIPPED = "refused", "accepted", "a flipped payload bit was accepted"
DIGITS, DEEP = "@digits", "@deep"
"""Stand for a number of 5000 digits, and for 200 000 nested lists, which `json.dumps` cannot write."""
NASTY: tuple[Any, ...] = (
    *("", " ", "a\nb", "a\0b", "[/bold]", "=1+1", "../../x", "/etc/passwd", "x" * 300, "\u202e", "\ud800", "<b>"),
    *(None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, -0.5, float("nan"), float("inf")),
    *([], {}, [[]], {"a": 1}, DIGITS, DEEP, "9" * 5000),
)

Random = random.Random


class Format(NamedTuple):
    """How a valid scene is made, changed (returns whether bits of a sealed file were flipped), and read."""

    make: Callable[[Path], object]
    change: Callable[[Random, Path], bool]
    read: Callable[[Path], object]


class Fuzzer:
    """Cases of `formats` in turn, in `folder`. Case `number` depends on the seed and its number only."""

    def __init__(self, folder: Path, seed: int, formats: Mapping[str, Format]) -> None:
        self.folder, self.seed, self.formats = folder, seed, formats

    def run(self, number: int) -> tuple[str, str]:
        """Return the format of a case and its outcome; a traceback if something else than UserError was raised."""
        name = list(self.formats)[number % len(self.formats)]
        scene, case = self.folder / name, self.folder / "case"
        if not scene.exists():
            scene.mkdir(parents=True)
            self.formats[name].make(scene)
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(scene, case)
        flipped = self.formats[name].change(Random(f"{self.seed} {number}"), case)
        try:
            self.formats[name].read(case)
        except UserError as error:
            return name, REFUSED if len(str(error).splitlines()) == 1 else f"not one line: {error!s:.500}"
        except Exception:
            return name, traceback.format_exc()
        return name, FLIPPED if flipped else ACCEPTED


def change_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, cut, insert, overwrite or repeat bytes."""
    place, length = rng.randrange(len(data) + 1), min(len(data), 2 ** rng.randrange(12))
    noise = rng.choice([rng.randbytes(length), bytes(length), b"\xff" * length])
    kind = rng.randrange(6)
    if kind == 0 and data:
        return flip(rng, data, 0)
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + noise + data[place:]
    if kind == 3:
        return data[:place] + noise + data[place + length :]
    if kind == 4:
        return data[:place] + data[max(0, place - length) :]
    return rng.choice([b"", noise, b"PK\x03\x04" + noise])


def flip(rng: Random, data: bytes, start: int) -> bytes:
    """Flip one bit, at `start` or after it."""
    changed = bytearray(data)
    changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_json(rng: Random, value: Any) -> Any:
    """Replace, remove or add one value somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: change_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return [*value, value[place]]
        return [change_json(rng, item) if index == place else item for index, item in enumerate(value)]
    return rng.choice(NASTY)


def json_text(value: Any) -> str:
    text = json.dumps(value).replace(f'"{DIGITS}"', "9" * 5000)
    return text.replace(f'"{DEEP}"', "[" * 200_000 + "]" * 200_000)


def change_cells(rng: Random, text: str) -> bytes:
    """Change cells, rows, delimiter or encoding of a CSV table."""
    rows = [*csv.reader(io.StringIO(text))]
    for _ in range(rng.randrange(3)):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(rng.choice(NASTY)).replace(DIGITS, "9" * 5000)
    if rng.random() < 0.3:
        rows.insert(rng.randrange(len(rows)), rng.choice([[], ["x"] * 3, ["x"] * 3000, rows[-1]]))
    output = io.StringIO()
    delimiter = rng.choice(",,;\t|")
    csv.writer(output, delimiter=delimiter, lineterminator=rng.choice(["\n", "\r\n", "\r"])).writerows(rows)
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32"])
    data = output.getvalue().encode(encoding, "surrogatepass" if encoding != "cp1252" else "replace")
    return change_bytes(rng, data) if rng.random() < 0.2 else rng.choice([b"", b"", codecs.BOM_UTF8, b"sep=;\n"]) + data


def change_sealed(rng: Random, path: Path) -> bool:
    """Change a safetensors file: a bit of its payload, any bytes, or, with a new digest, metadata or tensors."""
    data = path.read_bytes()
    kind = rng.randrange(4)
    if kind == 0:
        path.write_bytes(flip(rng, data, 8 + int.from_bytes(data[:8], "little")))
        return True
    if kind == 1:
        path.write_bytes(change_bytes(rng, data))
        return False
    tensors, metadata = unpack(path)
    name = rng.choice(list(tensors) if kind == 2 else list(metadata))
    if kind == 2:
        tensors[name] = change_tensor(rng, tensors[name].clone())
    else:
        value = metadata[name]
        metadata[name] = json_text(change_json(rng, json.loads(value))) if value[:1] in "{[" else str(rng.choice(NASTY))
    try:
        path.write_bytes(pack(tensors, metadata))
    except UnicodeEncodeError:  # a lone surrogate cannot be written
        path.write_bytes(change_bytes(rng, data))
    return False


def change_tensor(rng: Random, tensor: torch.Tensor) -> torch.Tensor:
    kind = rng.randrange(4)
    if kind == 0:
        return tensor.double()
    if kind == 1:
        return tensor.flatten()[: rng.randrange(tensor.numel() + 1)]
    if kind == 2:
        return torch.zeros_like(tensor)
    values = tensor.flatten()
    if tensor.is_floating_point():
        values[rng.randrange(len(values))] = rng.choice([torch.nan, torch.inf, -1e30])
    return values.reshape(tensor.shape)
