"""Weights of the official code: accepted from a mapping or a file, refused with the reason."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import golden
from safetensors.torch import save_file
from torch import Tensor

from mol_fast import MOL, load_official

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return golden.official_weights()


@pytest.fixture(scope="module")
def loaded(weights: Weights) -> MOL:
    return load_official(weights)


def same(a: MOL, b: MOL) -> bool:
    values = a.state_dict()
    return all(torch.equal(value, values[name]) for name, value in b.state_dict().items())


def test_model_is_the_official_one(loaded: MOL) -> None:
    assert not loaded.training
    assert (loaded.config.variant, loaded.config.center, loaded.config.norm_stats) == ("official", False, "frame")
    assert (loaded.config.num_classes, loaded.config.neighbors) == (5, 4)


def test_classes_come_from_the_weights_and_neighbours_from_the_caller() -> None:
    config = load_official(golden.official_weights(num_classes=3), neighbors=7).config
    assert (config.num_classes, config.neighbors) == (3, 7)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_files(weights: Weights, loaded: MOL, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    assert same(load_official(path if path.suffix == ".pt" else str(path)), loaded)


def test_other_dtypes_are_converted(weights: Weights, loaded: MOL) -> None:
    double = {name: value.double() if value.is_floating_point() else value for name, value in weights.items()}
    assert same(load_official(double), loaded)


def test_weights_are_copied(weights: Weights) -> None:
    model = load_official(weights)
    with torch.no_grad():
        model.stem.conv1.weight.zero_()
    assert weights["conv_stack.conv_stack.0.weight"].any()


CONV = "conv_stack.conv_stack.0.weight"
KERNEL = "FCC_1.meta_kernel_1_H"
NODE = "CCC_2.conv1.weight"
HEAD = "mer_3dcnn.fc2.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({CONV: None}, rf"missing \['{CONV}'\]"),
        ({HEAD: None}, f"lack the matrix {HEAD}"),
        ({HEAD: torch.zeros(())}, f"lack the matrix {HEAD}"),
        ({HEAD: torch.zeros(1, 256), "mer_3dcnn.fc2.bias": torch.zeros(1)}, "num_classes must be from 2 to 1000"),
        ({"extra.weight": torch.zeros(1)}, r"unknown \['extra.weight'\]"),
        ({CONV: torch.zeros(8, 1, 3, 3)}, rf"{CONV} has shape \(8, 1, 3, 3\), expected \(8, 1, 4, 4\)"),
        ({KERNEL: torch.zeros(64, 1, 12, 1)}, rf"{KERNEL} has shape"),
        ({KERNEL: torch.zeros(63, 1, 32, 1)}, rf"{KERNEL} has shape"),
        ({KERNEL: torch.zeros(32, 2, 32, 1)}, rf"{KERNEL} has shape"),
        ({KERNEL: torch.zeros(())}, rf"{KERNEL} has shape"),
        ({NODE: torch.zeros(256, 256, 3)}, rf"{NODE} has shape"),
        ({CONV: 3}, rf"got '{CONV}': int"),
        ({3: torch.zeros(1)}, "got 3: Tensor"),
    ],
)
def test_wrong_weights_are_named(weights: Weights, change: dict[str, Tensor], message: str) -> None:
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        load_official(changed)


class Code:
    """Unpickled, it would make the file `touched`."""

    touched = Path("touched")

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.touched,)


SOME = {"a": torch.zeros(1000), "b": torch.zeros(3)}


def text(path: Path) -> None:
    path.write_text("not a weights file\n" * 100)


def truncated(path: Path) -> None:
    save_file(SOME, path) if path.suffix == ".safetensors" else torch.save(SOME, path)
    path.write_bytes(path.read_bytes()[:-1000])


def code(path: Path) -> None:
    torch.save({**SOME, "code": Code()}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"code": Code()}, protocol=2))


def one_tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def nested(path: Path) -> None:
    torch.save({"model": SOME}, path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("text.safetensors", text, "is not a readable safetensors file of tensors and nothing else"),
        ("cut.safetensors", truncated, "is not a readable safetensors file of tensors and nothing else"),
        ("text.pt", text, "is not a readable PyTorch file of tensors and nothing else"),
        ("cut.pt", truncated, "is not a readable PyTorch file of tensors and nothing else"),
        ("code.pt", code, "is not a readable PyTorch file of tensors and nothing else"),
        ("bare.pkl", bare_pickle, "is not a readable PyTorch file of tensors and nothing else"),
        ("tensor.pt", one_tensor, "must hold tensors by name, it holds a Tensor"),
        ("nested.pt", nested, "weights must hold tensors by name, got 'model': dict"),
    ],
)
def test_wrong_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], None], message: str
) -> None:
    """One sentence that names the file, and no code of it runs."""
    monkeypatch.setattr(Code, "touched", tmp_path / "touched")
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=message) as caught:
        load_official(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or name == "nested.pt"
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["", "none.pt", "none.safetensors"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no weights file at"):
        load_official(tmp_path / name)
