"""Load weights of the official code: map their names and shapes to this package."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mol_fast.nn.config import FEATURE_SIZE
from mol_fast.nn.model import MOL
from mol_fast.nn.wrapped import check_names, unwrap

_BRANCHES = {
    "vh": ("pre_Norm_1", "1_H", "2_W"),
    "hv": ("pre_Norm_2", "1_W", "2_H"),
}
_UNUSED = re.compile(r"FCC_[12]\.ffn\.")
_MARK = "mer_3dcnn.fc2.weight"
"""Tensor by which the weights are found; its rows are the classes."""


def load_official(source: Mapping[str, Tensor] | str | Path, neighbors: int = 4) -> MOL:
    """Load weights of the official code into a `MOL(variant="official")` in evaluation mode.

    Args:
        source: a state dict, or its file: `.safetensors`, or a PyTorch checkpoint of plain tensors; wrapped ones, too
            (see `mol_fast.nn.wrapped`).
        neighbors: k of CCC, which the weights do not contain.

    Raises:
        ValueError: there are several sets of weights, a tensor is missing, unknown or has a wrong shape, or the file
            cannot be read.
    """
    weights = unwrap(source, _MARK)
    head = weights.get(_MARK)
    if head is None or head.dim() != 2:
        raise ValueError(f"weights lack the matrix {_MARK}: not the official network")
    model = MOL(
        head.shape[0], variant="official", center=False, difference=False, norm_stats="frame", neighbors=neighbors
    )
    expected = model.state_dict()
    names = {name: official_name(name) for name in expected}
    check_names({name: value for name, value in weights.items() if not _UNUSED.match(name)}, set(names.values()))
    converted = {name: _fit(name, weights[old], expected[name]) for name, old in names.items()}
    model.load_state_dict(converted)
    return model.eval()


def official_name(name: str) -> str:
    """Return the official code's name for the parameter or buffer `name` of a `MOL(variant="official")`."""
    module, _, rest = name.partition(".")
    if module == "stem":
        conv, _, leaf = rest.partition(".")
        return f"conv_stack.conv_stack.{int(conv[4:]) - 1}.{leaf}"
    if module in ("f5c_first", "f5c_second"):
        return _block_name("1" if module == "f5c_first" else "2", rest)
    if module == "flow_head":
        layer, _, leaf = rest.partition(".")
        if layer.startswith("predict"):
            return f"flownet.predict_flow{layer[7:]}.{leaf}"
        if layer.startswith("up"):
            return f"flownet.upsampled_flow{layer[2:]}_to_{int(layer[2:]) - 1}.{leaf}"
        leaf = leaf.replace("conv.", "0.").replace("norm.", "1.") if layer.startswith("conv") else f"0.{leaf}"
        return f"flownet.{layer}.{leaf}"
    if module == "landmark_head":
        return "ldm_predictor." + rest.replace("conv.", "convldm.")
    return "mer_3dcnn." + rest.replace("conv.", "conv3d.")


def _block_name(number: str, rest: str) -> str:
    part, _, rest = rest.partition(".")
    if part == "ccc":
        return f"CCC_{number}." + rest.replace("node.", "conv1.").replace("edge.", "conv2.")
    branch, _, leaf = rest.partition(".")
    norm, first, second = _BRANCHES[branch]
    if leaf.startswith("norm."):
        return f"FCC_{number}.{norm}.{leaf[5:]}"
    direction = first if leaf.endswith("1") else second
    kind = {"kernel": f"meta_kernel_{direction}", "pos": f"meta_pe_{direction}", "bias": f"meta_{direction}_bias"}
    return f"FCC_{number}.{kind[leaf[:-1]]}"


def _fit(name: str, value: Tensor, like: Tensor) -> Tensor:
    """Bring `value` to the shape of `like`: drop singleton axes, cut kernels and positions to the size of the map."""
    leaf = name.rpartition(".")[2]
    if leaf in ("kernel1", "kernel2", "pos1", "pos2"):
        value = value.squeeze()
        value = value[:, :FEATURE_SIZE] if value.dim() == 2 else value
    elif name.endswith(("node.weight", "edge.weight")):
        value = value.squeeze()
    if value.shape != like.shape:
        raise ValueError(f"{official_name(name)} has shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    return value
