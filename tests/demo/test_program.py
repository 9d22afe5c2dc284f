"""What stops the program before it serves a page: one sentence each."""

import importlib.util
import os
import socket
import sys
from pathlib import Path

import pytest

from mol_fast.demo import main
from mol_fast.demo.program import newest_weights
from mol_fast.demo.serving import check_port

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
def test_without_weights_it_says_how_to_train_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mol_fast.demo.program.check_port", lambda port: None)
    told = sentence(capsys)
    assert told.startswith("error: there are no weights in runs: train some with `python -m mol_fast.train`, or give")
    assert sentence(capsys, "--weights", "nowhere").startswith("error: no weights at nowhere: give a .safetensors file")


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


def test_the_newest_weights_are_taken(tmp_path: Path) -> None:
    places = [f"{run}/folds/s01-seed{seed}/weights.safetensors" for run in "ab" for seed in range(2)]
    for age, place in zip((3, 1, 2, 4), places, strict=True):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    assert newest_weights(tmp_path) == tmp_path / places[1]
