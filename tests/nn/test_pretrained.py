"""Models that are loaded and saved with what is known about their training, from a path or from the hub's cache."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mol_fast import MOL, PRESETS, UserError, landmarks
from mol_fast.export import run as export
from mol_fast.nn.weights import FILE_NAME, load_described, save_weights
from mol_fast.utils.files import file_sha256
from mol_fast.utils.sealed import pack, unpack

CONFIG = replace(PRESETS["small"], flow_width=0.02, num_classes=2, tasks=("mer", "flow"))
INFO: dict[str, Any] = {
    "classes": ["calm", "moved"],
    "sources": ["casme2", "heads"],
    "spans": [0.2, 0.25, 0.4],
    "temperature": 1.7,
    "train_subjects": [["casme2", "sub07"], "heads/h01"],
    "steps": 40,
    "note": "mine",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `save_pretrained`; tests must not change it."""
    folder = tmp_path_factory.mktemp("saved") / "new" / "folder"
    assert MOL(config=CONFIG).save_pretrained(folder, INFO) == folder / FILE_NAME
    return folder


def test_everything_survives_a_round_trip(saved: Path, tmp_path: Path):
    model = MOL.from_pretrained(saved)
    assert model.info == INFO
    assert model.config == CONFIG
    assert not model.training
    again = model.save_pretrained(tmp_path / "again")
    assert again.read_bytes() == (saved / FILE_NAME).read_bytes()
    header = load_described(again)[1]
    assert (header.classes, header.temperature, header.spans) == (("calm", "moved"), 1.7, (0.2, 0.25, 0.4))
    assert header.sources == ("casme2", "heads")


def test_what_cannot_be_saved(saved: Path, tmp_path: Path):
    model = MOL.from_pretrained(saved)
    with pytest.raises(UserError, match=r"a value of info is not plain \(.*set.*\); give text"):
        model.save_pretrained(tmp_path / "set", {**INFO, "note": {1, 2}})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to .*file/folder \(Not a directory\): give another folder"):
        model.save_pretrained(tmp_path / "file" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_weights_that_are_not_finite(saved: Path, tmp_path: Path):
    model = MOL.from_pretrained(saved)
    kept = model.save_pretrained(tmp_path / "kept").read_bytes()
    model.expression_head.fc2.weight.data[0, 0] = torch.nan
    for half in (False, True):
        with pytest.raises(ValueError, match=r"expression_head\.fc2\.weight has values that are not finite"):
            model.save_pretrained(tmp_path / "kept", half=half)
    assert (tmp_path / "kept" / FILE_NAME).read_bytes() == kept
    save_weights(tmp_path / "nan.safetensors", model, INFO)
    with pytest.raises(UserError, match=r"expression_head\.fc2\.weight has values that are not finite; train again"):
        MOL.from_pretrained(tmp_path / "nan.safetensors")


def test_weights_of_whole_numbers_are_refused(saved: Path, tmp_path: Path):
    tensors, metadata = unpack(saved / FILE_NAME if saved.is_dir() else saved)
    name = next(name for name, value in tensors.items() if value.dim() == 4)
    tensors[name] = tensors[name].to(torch.int8)
    (tmp_path / "int8.safetensors").write_bytes(pack(tensors, metadata))
    with pytest.raises(UserError, match=rf"{re.escape(name)} has torch.int8, expected torch.float32"):
        MOL.from_pretrained(tmp_path / "int8.safetensors")


def test_only_what_is_halved_must_fit_into_half_precision(saved: Path, tmp_path: Path):
    model = MOL.from_pretrained(saved)
    model.expression_head.fc2.bias.data.fill_(1e6)
    again = MOL.from_pretrained(model.save_pretrained(tmp_path / "half", half=True))
    assert again.expression_head.fc2.bias.eq(1e6).all()
    model.expression_head.fc2.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match="beyond the range of half precision"):
        model.save_pretrained(tmp_path / "half", half=True)


def test_half_precision_is_half_the_space_and_loads_as_float32(saved: Path, tmp_path: Path):
    model = MOL.from_pretrained(saved)
    model.expression_head.fc2.bias.data.fill_(1.0001)  # a bias keeps what half precision would lose
    file = model.save_pretrained(tmp_path / "half", half=True)
    assert file.stat().st_size < 0.55 * (saved / FILE_NAME).stat().st_size
    half = MOL.from_pretrained(file)
    assert half.info == INFO
    own = dict(half.named_parameters())
    for name, value in model.state_dict().items():
        loaded = half.state_dict()[name]
        assert loaded.dtype == value.dtype
        rounded = value.half() if name in own and value.dim() > 1 else value
        assert torch.equal(loaded, rounded.to(value.dtype)), name
    half.expression_head.fc2.weight.data.fill_(1e5)
    with pytest.raises(ValueError, match="the model has weights beyond the range of half precision"):
        half.save_pretrained(tmp_path / "large", half=True)


def test_a_path_may_be_a_file_or_the_folder_of_a_run(saved: Path, tmp_path: Path):
    assert MOL.from_pretrained(str(saved / FILE_NAME)).info == INFO
    folds = [tmp_path / "run" / "folds" / name for name in ("s01-seed0", "s02-seed0")]
    for count, fold in enumerate(folds):
        fold.mkdir(parents=True)
        (fold / "config.json").write_text("{}")
        (fold / FILE_NAME).write_bytes((saved / FILE_NAME).read_bytes())
        if count == 0:
            model = MOL.from_pretrained(tmp_path / "run")
    for name, value in MOL.from_pretrained(folds[0]).state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    with pytest.raises(UserError, match="has the weights of 2 folds: give one of them"):
        MOL.from_pretrained(tmp_path / "run")
    with pytest.raises(UserError, match=r"s01-seed0 is the folder of a run, as its config.json shows: give another"):
        MOL(config=CONFIG).save_pretrained(folds[0], INFO)
    assert (folds[0] / FILE_NAME).read_bytes() == (saved / FILE_NAME).read_bytes()


def test_what_could_not_be_loaded_is_not_saved(saved: Path, tmp_path: Path):
    model = MOL.from_pretrained(saved)
    with pytest.raises(ValueError, match=r"the model is not as it was made \(flow_head.conv1.conv.bias is not part"):
        model.optimize_for_inference().save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"info must name the 2 classes of the model, like info=.*, got 0"):
        MOL(config=CONFIG).save_pretrained(tmp_path / "folder")
    with pytest.raises(UserError, match=r"info: expected .* at temperature; correct it"):
        model.save_pretrained(tmp_path / "folder", {**INFO, "temperature": -1})
    with pytest.raises(UserError, match="is a file: give a folder"):
        model.save_pretrained(saved / FILE_NAME)
    assert not list(tmp_path.iterdir())


def test_a_wrong_digest_is_named(saved: Path, tmp_path: Path):
    digest = file_sha256(saved / FILE_NAME)
    assert MOL.from_pretrained(saved, sha256=digest).info == INFO
    with pytest.raises(UserError, match=f"{FILE_NAME} has the SHA-256 {digest}, expected 00ff: it is damaged or"):
        MOL.from_pretrained(saved, sha256="00ff")
    data = bytearray((saved / FILE_NAME).read_bytes())
    data[-5] ^= 1
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(UserError, match="its content differs from its digest"):
        MOL.from_pretrained(tmp_path)


def test_a_newer_format_is_named(saved: Path, tmp_path: Path):
    tensors, metadata = unpack(saved / FILE_NAME)
    header = json.loads(metadata["mol_fast"])
    assert header["format"] == 1
    header |= {"format": 2, "classes": "in another form", "config": {"later": 1}}
    (tmp_path / FILE_NAME).write_bytes(pack(tensors, {"mol_fast": json.dumps(header)}))
    with pytest.raises(UserError, match="is of format 2, which a newer mol-fast writes, this one reads format 1: inst"):
        MOL.from_pretrained(tmp_path)


def test_a_file_of_an_earlier_version_has_no_format(saved: Path, tmp_path: Path):
    tensors, metadata = unpack(saved / FILE_NAME)
    header = {name: value for name, value in json.loads(metadata["mol_fast"]).items() if name != "format"}
    (tmp_path / FILE_NAME).write_bytes(pack(tensors, {"mol_fast": json.dumps(header)}))
    assert MOL.from_pretrained(tmp_path).info == INFO


class Trap:
    """What a pickle may do: it calls a function of its own choice when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("as_file", [True, False])
def test_a_pickle_is_refused(as_file: bool, tmp_path: Path):
    file = tmp_path / "pytorch_model.bin"
    torch.save({"weights": Trap()}, file)
    with pytest.raises(UserError, match=r"pytorch_model.bin may be a pickle, which could run code and is never loaded"):
        MOL.from_pretrained(file if as_file else tmp_path)


def test_nothing_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"no weights at .*: give a .safetensors file or the folder of a finished run"):
        MOL.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no weights at runs/gone.safetensors"):
        MOL.from_pretrained("runs/gone.safetensors")
    with pytest.raises(ValueError, match="revision is for owner/name, not for the path"):
        MOL.from_pretrained(tmp_path, revision="v1")


@pytest.fixture
def cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's package with the model "lab/faces", and no network; the working folder is empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "hub" / "models--lab--faces"
    (model / "snapshots" / commit).mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit / FILE_NAME).write_bytes((saved / FILE_NAME).read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def test_weights_of_the_hub(cache: Path):
    assert MOL.from_pretrained("lab/faces").info == INFO
    assert MOL.from_pretrained("lab/faces", revision="main").config == CONFIG


def test_without_network_the_sentence_says_what_to_put_where(cache: Path, saved: Path):
    with pytest.raises(
        UserError, match="lab/other is no path here, and cannot be downloaded without network"
    ) as caught:
        MOL.from_pretrained("lab/other")
    assert str(caught.value).endswith(f"download its {FILE_NAME} elsewhere, and put it into a folder lab/other here")
    folder = cache / "lab" / "other"
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_bytes((saved / FILE_NAME).read_bytes())
    assert MOL.from_pretrained("lab/other").info == INFO


def test_programs_read_weights_of_the_hub(cache: Path):
    with pytest.raises(UserError, match=r"lab--faces.* was trained for mer, flow alone, not for landmarks"):
        landmarks(np.zeros((1, 64, 64), np.uint8), Path("lab/faces"))
    with pytest.raises(UserError, match="lab/other is no path here, and cannot be downloaded without network"):
        export(Path("lab/other"), Path("mol.onnx"))


@pytest.mark.parametrize("wrong", ["runs/gone", "nowhere", "models/gone.safetensors", "models/gone.pt"])
def test_a_slip_of_the_pen_is_not_sent_to_the_hub(wrong: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mol_fast.nn.locate.download", lambda *asked: pytest.fail(f"asked the hub for {asked}"))
    (cache / "runs").mkdir()
    with pytest.raises(UserError, match=wrong):
        export(Path(wrong), Path("mol.onnx"))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("RemoteEntryNotFoundError", "lab/x has no weights.safetensors, and files such as pytorch_model.bin may be"),
        ("RepositoryNotFoundError", "lab/x is neither a path here nor a model that you may read: check the name, or"),
        ("GatedRepoError", "lab/x is neither a path here nor a model that you may read: check the name, or log in"),
        ("RevisionNotFoundError", "lab/x has no revision v9: give another one"),
        ("OfflineModeIsEnabled", r"lab/x cannot be downloaded \(500: broken\): try again, or give a path"),
    ],
)
def test_answers_of_the_hub(kind: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub")
    error = getattr(hub.errors, kind)
    monkeypatch.chdir(tmp_path)

    def refuse(name: str, file: str, revision: str | None) -> str:
        raise error.__new__(error, "500: broken\nrequest 17")

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    with pytest.raises(UserError, match=sentence):
        MOL.from_pretrained("lab/x", revision="v9")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"to download it huggingface_hub is needed: pip install 'mol-fast\[hub\]'"):
        MOL.from_pretrained("lab/faces")


def test_weights_of_a_baseline_are_named(tmp_path: Path):
    from mol_fast.baselines import BASELINES

    name = "majority"
    save_weights(tmp_path / FILE_NAME, BASELINES[name](2), {"classes": ["calm", "moved"]})
    with pytest.raises(UserError, match="holds the baseline majority, which only evaluate --weights scores"):
        MOL.from_pretrained(tmp_path)
