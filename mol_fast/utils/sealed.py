"""Files that carry a digest of themselves: safetensors files and JSON.

The digest stands in the first bytes, under the key "digest". It is the SHA-256 of all bytes of the file, with
zeros for its own digits, so that every changed bit is noticed. Files of earlier versions have no digest; their content
is not checked.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mol_fast.utils.errors import UserError
from mol_fast.utils.files import replacing
from mol_fast.utils.schema import read_json

T = TypeVar("T")
KEY = "digest"
_BLANK = f"sha256:{'0' * 64}"
_START = 128
"""Number of first bytes that hold the digest."""
_ENTRY = re.compile(rb'"digest": ?"(sha256:[0-9a-f]{64})"')
_TRACE = re.compile(rb'"digest"|"sha256:')
"""Remains of a damaged entry: no single flipped bit destroys both."""
_PIECE = 1 << 20
_LONG_HEAD = 1 << 13
"""Bytes of the header of a file that is written in pieces; names of 200 bytes may have 2400 bytes as escapes."""


class DamagedFile(ValueError):
    """A file is incomplete, or its content differs from its digest. The message does not name the file."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with a digest. Equal tensors and metadata give equal bytes.

    Args:
        tensors: tensors by name, of any strides and on any device.
        metadata: entries of the header, kept in this order. (The order that `safetensors` writes is random.)
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    end = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": {KEY: _BLANK, **metadata}, **json.loads(content[8:end])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return _seal(len(text).to_bytes(8, "little") + text, memoryview(content)[end:])


def write_in_pieces(
    path: Path,
    name: str,
    pieces: Iterable[Tensor],
    others: Callable[[], Mapping[str, Tensor]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file with a digest, of which one tensor is never whole in memory. Replaces `path`.

    Args:
        path: file to write; its folder must exist.
        name: name of the tensor that comes in pieces.
        pieces: parts of it along the first axis, at least one, of a size that is a multiple of 8 bytes each.
        others: returns the other tensors by name; called after the last piece.
        metadata: entries of the header.

    Raises:
        OSError: the file cannot be written.
        ValueError: there is no piece, or the metadata are too long.
    """
    with replacing(path) as file:
        file.write(bytes(_LONG_HEAD))
        rows, last = 0, None
        for last in pieces:
            file.write(last.contiguous().numpy().tobytes())
            rows += len(last)
        if last is None:
            raise ValueError(f"there is no piece of {name}")
        size = file.tell() - _LONG_HEAD
        content = save({name: last[:0].contiguous(), **{key: value.contiguous() for key, value in others().items()}})
        end = 8 + int.from_bytes(content[:8], "little")
        header: dict[str, Any] = {"__metadata__": {KEY: _BLANK, **metadata}, name: None}
        for key, value in json.loads(content[8:end]).items():
            header[key] = {**value, "data_offsets": [size + offset for offset in value["data_offsets"]]}
        header[name] |= {"shape": [rows, *last.shape[1:]], "data_offsets": [0, size]}
        file.write(content[end:])
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > _LONG_HEAD - 8:
            raise ValueError(f"the metadata have {len(text)} bytes, at most {_LONG_HEAD - 8} are possible")
        file.seek(0)
        file.write((_LONG_HEAD - 8).to_bytes(8, "little") + text.ljust(_LONG_HEAD - 8))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(8 + text.index(_BLANK.encode()))
        file.write(f"sha256:{digest}".encode())


def unpack(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file. The tensors are mapped into memory, and read when used.

    Raises:
        OSError: the file cannot be read.
        DamagedFile: it is not a complete safetensors file, or differs from its digest.
    """
    check_digest(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedFile(str(error)) from None
    metadata.pop(KEY, None)
    return tensors, metadata


def sealed_json(values: Mapping[str, Any]) -> bytes:
    """Return a JSON file of `values` with a digest. Read it with `read_sealed_json`."""
    return _seal((json.dumps({KEY: _BLANK, **values}, indent=2) + "\n").encode())


def read_sealed_json(path: Path, type: type[T], advice: str) -> T:
    """Read a file of `sealed_json`, see `read_json`.

    Raises:
        UserError: the file differs from its digest, or cannot be used.
    """
    with contextlib.suppress(OSError):  # `read_json` explains it
        try:
            check_digest(path)
        except DamagedFile as error:
            raise UserError(f"{path}: {error}; {advice}") from None
    return read_json(path, type, advice)


def check_digest(path: Path) -> None:
    """Check that a file agrees with its digest, if it has one. A file that did not change is checked once in a process.

    Raises:
        OSError: the file cannot be read.
        DamagedFile: it differs from its digest.
    """
    state = os.stat(path)
    _check(os.fspath(path), state.st_ino, state.st_size, state.st_mtime_ns)


def stored_digest(path: Path) -> str:
    """Return the digest that a file says it has, without a check; empty if it has none.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        entry = _ENTRY.search(file.read(_START))
    return "" if entry is None else entry[1].decode()


@cache
def _check(path: str, *state: int) -> None:
    with open(path, "rb") as file:
        start = file.read(_START)
        entry = _ENTRY.search(start)
        if entry is None:
            if _TRACE.search(start):
                raise DamagedFile("its digest is damaged")
            return
        digest = hashlib.sha256(start.replace(entry[1], _BLANK.encode()))
        while piece := file.read(_PIECE):
            digest.update(piece)
    if entry[1].decode() != f"sha256:{digest.hexdigest()}":
        raise DamagedFile("its content differs from its digest")


def _seal(head: bytes, rest: bytes | memoryview = b"") -> bytes:
    digest = hashlib.sha256(head)
    digest.update(rest)
    return b"".join([head.replace(_BLANK.encode(), f"sha256:{digest.hexdigest()}".encode(), 1), rest])
