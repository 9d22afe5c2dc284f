"""The header of weights is checked, and the model's size is bounded before it is built."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mol_fast import MOL, PRESETS
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.utils.errors import UserError
from mol_fast.utils.sealed import pack, unpack

Content = tuple[dict[str, Tensor], dict[str, Any]]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Tensors and header of weights."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    subjects = [["set", "a/b"], "set/old"]
    save_weights(path, MOL(config=PRESETS["small"]), {"classes": ["a", "b", "c"], "train_subjects": subjects})
    tensors, metadata = unpack(path)
    return tensors, json.loads(metadata["mol_fast"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"config": {"flow_width": 1e6}}, "flow_width must be positive and at most 16, got 1000000.0"),
        ({"config": {"flow_width": 16}}, r"conv1.conv.weight has shape \(16, 2, 6, 6\), expected \(1024, 2, 6, 6\)"),
        ({"config": {"num_classes": 10**9}}, "num_classes must be from 2 to 1000, got 1000000000"),
        ({"config": {"num_classes": 900}}, "names 3 classes, but its header says variant paper, 900 classes"),
        ({"config": {"neighbors": 10**9}}, "neighbors must be from 1 to the number of nodes"),
        ({"config": {"frames": 10**9}}, "frames must be from 5 to 4096"),
        ({"config": {"frames": 4096}}, "does not hold the model of its header"),
        ({"config": {"tasks": "mer"}}, "got str - at tasks"),
        ({"config": {"dropout": None}}, "at dropout"),
        ({"config": {"later": 1}}, "unknown configuration fields: later"),
        ({"classes": {"a": 0, "b": 1, "c": 2}}, "expected array, got object at classes"),
        ({"classes": "abc"}, "expected array, got str at classes"),
        ({"classes": ["a", "a", "a"]}, "the class 'a' occurs twice"),
        ({"classes": ["a"] * 5000}, "at classes"),
        (
            {"classes": ["a", "b", "c\x1b[31m"]},
            r"the class c\\x1b\[31m cannot be used: it contains the character U\+001B",
        ),
        ({"classes": ["a", "b", 5]}, r"got int at classes\[2\]"),
        ({"train_subjects": 5}, "got int at train_subjects"),
        ({"steps": -1}, "at steps"),
    ],
)
def test_defect_07_wrong_header_of_weights_is_refused_at_the_door(
    content: Content, tmp_path: Path, change: dict[str, Any], sentence: str
):
    tensors, header = content
    changed = header | change | {"config": header["config"] | change.get("config", {})}
    path = tmp_path / "w.safetensors"
    path.write_bytes(pack(tensors, {"mol_fast": json.dumps(changed)}))
    with pytest.raises(UserError, match=sentence) as caught:
        load_weights(path)
    assert str(path) in str(caught.value)
    assert "train again" in str(caught.value)


def test_header_of_weights_returns_as_it_was(content: Content, tmp_path: Path):
    tensors, header = content
    path = tmp_path / "w.safetensors"
    path.write_bytes(pack(tensors, {"mol_fast": json.dumps(header | {"note": "mine"})}))
    model, info = load_weights(path)
    assert info == header | {"note": "mine"}
    assert model.config == PRESETS["small"]
