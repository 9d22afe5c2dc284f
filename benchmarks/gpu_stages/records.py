"""Results as JSON lines. Each is flushed to disk at once, so that a kill loses none."""

import json
import math
import os
from pathlib import Path
from typing import Any

FILE = "results.jsonl"
MOST_BYTES = 4 * 2**20
"""Largest size of the file; further records are dropped."""
MOST_TEXT = 2000
"""Most characters of a text in a record."""

Record = dict[str, Any]


class DamagedRecords(ValueError):
    """The file is not an intact file of records."""


def append(file: Path, record: Record) -> None:
    """Append one line atomically, also with several writing processes, and flush it to disk."""
    data = (json.dumps(plain(record), allow_nan=False, separators=(",", ":")) + "\n").encode()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if os.fstat(descriptor).st_size + len(data) > MOST_BYTES:
            return
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """Convert `value` for JSON: no NaN, no long text, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= MOST_TEXT else value[: MOST_TEXT - 3] + "..."
    return value if isinstance(value, int) or value is None else plain(str(value))


def read(file: Path) -> list[Record]:
    """Read all records. Ignores a last line that was cut off by a kill.

    Raises:
        DamagedRecords: the file is missing or empty, or a line does not come from `append`.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedRecords(f"{file} cannot be read: {error}") from error
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DamagedRecords(f"line {number} of {file} is damaged") from error
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise DamagedRecords(f"line {number} of {file} is no record")
        records.append(record)
    if not records:
        raise DamagedRecords(f"{file} holds no record")
    return records


def of_kind(records: list[Record], kind: str) -> list[Record]:
    return [record for record in records if record["kind"] == kind]
