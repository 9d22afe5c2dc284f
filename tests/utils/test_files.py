"""Atomic writing: whole files, nothing left behind, the old file kept when writing fails."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mol_fast.utils.files import write_atomic


def test_writes_text_and_bytes_as_given(tmp_path: Path) -> None:
    write_atomic(tmp_path / "text", "zwei\r\nZüge\n")
    write_atomic(str(tmp_path / "bytes"), b"\x00\xff\n")
    assert (tmp_path / "text").read_bytes() == "zwei\r\nZüge\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff\n"
    assert sorted(os.listdir(tmp_path)) == ["bytes", "text"]


def test_replaces_an_existing_file_with_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    path.write_text("a much longer old content")
    usual = stat.S_IMODE(path.stat().st_mode)
    write_atomic(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == usual


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failure_keeps_the_old_file_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def recorded(function: Callable[..., None], name: str, steps: list[str]) -> Callable[..., None]:
    def record(*arguments: object) -> None:
        steps.append(name)
        function(*arguments)

    return record


def test_content_is_on_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(getattr(os, name), name, steps))
    write_atomic(tmp_path / "file", "x")
    assert steps == ["fsync", "replace", "fsync"]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "file", "x")
