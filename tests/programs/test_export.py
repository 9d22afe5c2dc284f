"""Exported models: the same numbers, any batch, what the file tells, and that it runs without PyTorch."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.predict_scene import CLASSES, write_weights

from mol_fast import MOL, PRESETS
from mol_fast.data.clips import normalise_frames
from mol_fast.export import main
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.prediction import exported
from mol_fast.prediction.exported import AlignedFrames, export_model
from mol_fast.utils.errors import UserError

README = Path(exported.__file__).parent / "README.md"
BLOCKED = "import sys\nsys.modules.update(torch=None, mol_fast=None)\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")


@pytest.fixture(scope="module")
def some_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that predict the expression and action units."""
    path = tmp_path_factory.mktemp("run") / "weights.safetensors"
    save_weights(path, MOL(config=replace(PRESETS["small"], tasks=("mer", "units"))), {"classes": list(CLASSES)})
    return path


def clips(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 128, 128), dtype=np.uint8)


def test_the_example_runs_onnx_without_torch(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the README, with the numbers of the model at the end."""
    assert main([str(weights), str(tmp_path / "mol.onnx")]) == 0
    assert "probabilities, flow, landmarks" in capsys.readouterr().out
    frames = clips(5)
    np.save(tmp_path / "frames.npy", frames)
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[-1]
    save = "np.savez('found.npz', about=json.dumps(about), **result)\n"
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + example + save], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    model, _ = load_weights(weights)
    module = AlignedFrames(model)
    with torch.no_grad():
        expected = dict(zip(module.outputs, module(torch.from_numpy(frames)), strict=True))
    found = np.load(tmp_path / "found.npz")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-4)
    best = expected["probabilities"].argmax(1).tolist()
    assert done.stdout.strip() == str([CLASSES[place] for place in best])
    about = json.loads(str(found["about"]))
    assert about["classes"] == list(CLASSES)
    assert set(about["units"]) == {"probabilities", "flow", "landmarks"}


def test_a_program_of_pytorch_with_the_tasks_of_the_weights(some_tasks: Path, tmp_path: Path) -> None:
    path = tmp_path / "mol.pt2"
    assert main([str(some_tasks), str(path), "--format", "pt2"]) == 0
    told = {"mol_fast": ""}
    program = torch.export.load(path, extra_files=told)
    about = json.loads(told["mol_fast"])
    assert list(about["units"]) == ["probabilities", "action_units"]
    assert about["action_units"] == [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17]
    model, _ = load_weights(some_tasks)
    frames = torch.from_numpy(clips(3))
    with torch.no_grad():
        found, expected = program.module()(frames), AlignedFrames(model)(frames)
        logits = model(normalise_frames(frames)[:, None]).units
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], logits.sigmoid(), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(os.environ.get("MOL_FAST_AOT") != "all", reason="compiles for a minute; MOL_FAST_AOT=all runs it")
def test_compiled_code(some_tasks: Path, tmp_path: Path) -> None:
    assert main([str(some_tasks), str(tmp_path / "mol.pt2"), "--format", "aoti"]) == 0


def test_a_file_that_disagrees_is_not_written(
    some_tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported.torch.export, "export", lambda *_, **__: None)

    def wrong(program: object, path: Path, *_: object) -> exported.Run:
        path.write_bytes(b"x")
        return lambda frames: [np.full((len(frames), 3), 0.5, dtype=np.float32)]

    monkeypatch.setattr(exported, "_to_onnx", wrong)
    with pytest.raises(
        UserError, match=r"mol.onnx is not written: the output probabilities differs from that of the model by"
    ):
        export_model(load_weights(some_tasks)[0], tmp_path / "mol.onnx", "onnx", {})
    assert not list(tmp_path.iterdir())


def test_a_model_in_training_is_refused(some_tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the model is in training mode, call model\.eval"):
        export_model(load_weights(some_tasks)[0].train(), tmp_path / "mol.onnx", "onnx", {})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["{weights}", "mol.pt"], "OUT is mol.pt, --format onnx needs the ending .onnx"),
        (["{weights}", "mol.onnx", "--format", "pt2"], "--format pt2 needs the ending .pt2"),
        (["{weights}", "folder.onnx"], "OUT is folder.onnx, which is a folder: give the name of a file"),
        (["{weights}", "nowhere/mol.onnx"], "there is no folder nowhere, create it first"),
        (["nowhere", "mol.onnx"], "no weights at nowhere"),
    ],
)
def test_bad_input_is_one_sentence(
    some_tasks: Path, tmp_path: Path, monkeypatch, capsys, options: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.onnx").mkdir()
    assert main([option.format(weights=some_tasks) for option in options]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_missing_packages_are_named(some_tasks: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(exported.torch.export, "export", lambda *_, **__: None)
    assert main([str(some_tasks), str(tmp_path / "mol.onnx")]) == 2
    assert "onnxruntime is not installed: pip install 'mol-fast[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
