"""What stops the program before it serves a page: one sentence each."""

import importlib.util
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mol_fast.demo import main
from mol_fast.demo.serving import check_port
from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.utils.errors import UserError

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio is not installed")


def sentence(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The sentence of a start that must fail."""
    assert main(list(options)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert sentence(capsys) == "error: gradio is not installed: pip install 'mol-fast[demo]'"


@needs_gradio
def test_weights_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mol_fast.demo.program.check_port", lambda port: None)
    assert sentence(capsys, "--weights", "nowhere").startswith("error: no weights at nowhere: give a .safetensors file")


@needs_gradio
def test_without_weights_the_page_takes_general(
    general: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = []

    @contextmanager
    def serve(options: Options, predictor: Predictor, port: int) -> Iterator[str]:
        served.append((str(options.weights), predictor.header.sources))
        raise UserError("enough")
        yield ""

    monkeypatch.setattr("mol_fast.demo.program.served", serve)
    assert sentence(capsys, "--port", "65535") == "error: enough"
    assert served == [("general", ("embedded",))]


@needs_gradio
def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = sentence(capsys, "--port", str(port))
        assert told == f"error: port {port} is taken by another program: end it, or give another --port"
    check_port(port)
    assert sentence(capsys, "--port", "0") == "error: --port is 0, must be from 1 to 65535"
    assert sentence(capsys, "--port", "65536") == "error: --port is 65536, must be from 1 to 65535"
