"""The last boundary of every program: whatever escapes is one sentence, and nothing that somebody needs is lost."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mol_fast.cli import run_program
from mol_fast.data import ClipDataset, PreparedSet, get_protocol
from mol_fast.training.loop import batches
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.terminal import make_console

NO_MEMORY = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: 1 bytes"


def code_of(error: BaseException) -> int:
    def run() -> None:
        raise error

    return run_program(run, [], "train", "train")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a"), "no space left on device (a): free space or choose"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "read-only file system (a): choose a folder on another"),
        (OSError(errno.EACCES, "Permission denied", "a"), "permission denied (a): change its permissions"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), "file name too long (a): choose a shorter name"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files: allow more with `ulimit -n`"),
        (OSError(errno.EISDIR, "Is a directory", b"a"), "is a directory (a): give a file"),
        (OSError(errno.EXDEV, "Invalid cross-device link"), "invalid cross-device link: check the path and its disk"),
        (MemoryError(), "the memory is full: end other programs"),
        (RuntimeError(NO_MEMORY), "the memory is full: end other programs"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "the memory of the GPU is full: give a smaller"),
        (RuntimeError("[/gloo/transport/tcp/pair.cc:1] Connection closed by peer"), "another process of this run has"),
        (ModuleNotFoundError("", name="rich"), "rich is not installed: pip install 'mol-fast[train]'"),
    ],
)
def test_boundary_explains_the_machine(
    error: Exception, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every OSError was answered with "free space"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert code_of(error) == 2
    told = capfd.readouterr().err
    assert told.startswith(f"error: {sentence}")
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth exceeded;"),
        (ValueError("two\nlines"), "ValueError: two lines;"),
        (AssertionError(), "AssertionError;"),
        (OSError("of a library"), "OSError: of a library;"),
        (KeyError("k" * 5000), "kkk...;"),
        (ModuleNotFoundError("No module named 'mol_fast.x'", name="mol_fast.x"), "ModuleNotFoundError: No module"),
    ],
)
@pytest.mark.parametrize("cache", ["cache", "file/cache"])
def test_boundary_keeps_the_traceback_of_what_nobody_expected(
    error: Exception,
    sentence: str,
    cache: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In the user's cache, or in the temporary folder if there can be no cache."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert code_of(error) == 70
    told = capfd.readouterr().err
    assert told.startswith("internal error: ")
    assert sentence in told
    assert told.count("\n") == 1
    assert len(told) < 500 + len(str(tmp_path))
    (path,) = tmp_path.rglob("train-*.txt")
    assert f"the traceback is in {path}, please report it" in told
    text = path.read_text()
    assert "Traceback (most recent call last)" in text
    assert "raise error" in text
    assert f"torch {torch.__version__}" in text


def test_boundary_reports_sigterm(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert run_program(run, [], "train", "train") == 128 + signal.SIGTERM
    assert capfd.readouterr().err == "stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) == before


PRINTING = """
import sys
from mol_fast.cli import run_program
def run() -> None:
    for number in range(100000):
        print(number)
sys.exit(run_program(run, [], "show", "train"))
"""


def test_boundary_is_silent_when_the_reader_is_gone() -> None:
    """As in `| head`."""
    command = [sys.executable, "-c", PRINTING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_boundary_is_silent_when_the_reader_of_a_table_is_gone() -> None:
    """rich ended the program with exit code 1."""

    def run() -> None:
        console = make_console()
        console.file = Closed()
        console.print("text")

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run()


def test_boundary_shows_names_without_their_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(UserError("there is no a\x1b[2J\rb: give\nanother")) == 2
    assert capsys.readouterr().err == "error: there is no a\\x1b[2J\\rb: give\nanother\n"


def test_boundary_passes_on_the_sentence_of_a_worker(embedded_small: PreparedSet, tmp_path: Path) -> None:
    """PyTorch puts the traceback of the process that reads clips into the message."""
    prepared = [video for video in embedded_small.videos if video.label != "others"]
    clips = ClipDataset(prepared, get_protocol("embedded-3"))
    clips.videos = [type(video)(**{**vars(video), "path": tmp_path / "gone.safetensors"}) for video in clips.videos]
    with pytest.raises(UserError) as caught:
        next(batches(clips, TrainSettings(workers=1, batch_size=2)))
    assert str(caught.value) == f"there is no video file {tmp_path / 'gone.safetensors'}; prepare the set again"


def test_the_console_script_ends_predict_although_a_thread_still_works() -> None:
    code = (
        "import sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\n"
        "sys.argv = ['mol-fast', 'predict', 'nowhere.mp4']\n"
        "from mol_fast.cli import script\n"
        "sys.exit(script())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: nowhere.mp4 does not exist")
