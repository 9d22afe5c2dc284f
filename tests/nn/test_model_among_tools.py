"""The heads of the network among other tools: hooks, adapters, pruning, quantisation."""

import copy
import warnings
from typing import Any

import torch
from harness.adapters import LowRank
from harness.compare import seeded
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.testing import assert_close

from mol_fast import MOL

FRAMES = 5
"""Of a small clip for the whole network."""


def network(**options: Any) -> MOL:
    torch.manual_seed(0)
    module = MOL(3, **{"flow_width": 0.05, "frames": FRAMES, "dropout": 0.0, **options})
    nn.init.normal_(module.flow_head.predict0.weight, std=0.1)
    return module.eval()


def outputs(model: MOL, clip: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [value for value in model(clip) if value is not None]


def test_defect_14_hooks_on_every_layer_of_the_network_fire() -> None:
    """Once per call of the layer, in evaluation and under autocast, and what they keep is not overwritten."""
    model = network()
    clip = seeded(1, 1, FRAMES, 128, 128)
    expected = outputs(model, clip)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in model.named_modules():
        if name and not list(layer.children()):
            layer.register_forward_hook(lambda _, __, y, name=name: seen.update({name: (y, y.clone())}))
    assert_close(outputs(model, clip), expected, rtol=1e-4, atol=1e-4)
    leaves = {name for name, layer in model.named_modules() if not list(layer.children())}
    assert seen.keys() == leaves
    assert all(torch.equal(*values) for values in seen.values())
    with torch.autocast("cpu", torch.bfloat16):
        outputs(model, clip)
    model.train()
    names = ["flow_head.conv1.norm", "flow_head.conv2.conv", "flow_head.deconv0", "flow_head.predict0"]
    found: list[str] = []
    for name in names:
        model.get_submodule(name).register_full_backward_hook(lambda *_, name=name: found.append(name))
    model(clip).flow.sum().backward()
    assert sorted(found) == sorted(names)


TARGETS = ("flow_head.conv3_1.conv", "flow_head.conv4.conv", "flow_head.predict0", "stem.conv2", "landmark_head.fc2")


def test_defect_14_adapters_and_pruning_in_the_heads() -> None:
    """The network with small layers beside its own is the network with merged weights; a mask holds, too."""
    merged = network()
    model = copy.deepcopy(merged)
    for name in TARGETS:
        layer = model.get_submodule(name)
        weight = merged.get_submodule(name).weight
        if name == "landmark_head.fc2":
            adapted = LowRank(layer)
            model.set_submodule(name, adapted)
            weight.data.copy_(adapted.merged())
        else:
            size = layer.weight.abs().contiguous()  # PyTorch cannot sort weights that are channels last
            prune.l1_unstructured(layer, "weight", 0.5, size)
            weight.data.mul_(layer.weight_mask)
    clip = seeded(1, 1, FRAMES, 128, 128)
    expected = outputs(merged, clip)

    def error(found: list[Tensor]) -> float:
        return max(float((ours - y).norm() / y.norm()) for ours, y in zip(found, expected, strict=True))

    assert error(outputs(model, clip)) < 1e-4
    assert error(outputs(model.optimize_for_inference(), clip)) < 1e-4
    with torch.autocast("cpu", torch.bfloat16):
        assert error(outputs(model, clip)) < 0.05


def test_defect_14_the_network_is_quantised() -> None:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import quantize_dynamic

        small = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    clip = seeded(1, 1, FRAMES, 128, 128)
    for ours, theirs in zip(outputs(small, clip), outputs(model, clip), strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 0.05
