"""Layers put in the place of the block's own: they are called for what they compute, or refused in words."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness.compare import randomise, seeded
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast import CCC, F5C, FCC, functional
from mol_fast import reference as ref
from mol_fast.nn.flow_layers import SLOPE, Conv

CHANNELS, SIZE, NEIGHBORS = 4, (2, 3), 3
CELLS = 6


def correspondence(variant: str = "paper", backend: str = "auto") -> CCC:
    layer = CCC(CHANNELS, SIZE, NEIGHBORS, variant, backend)
    randomise(layer)
    return layer.double()


def maps() -> Tensor:
    return seeded(3, CHANNELS, *SIZE, dtype=torch.float64)


def edges(layer: CCC) -> Tensor:
    """What `mix` gets, from the reference: with the identity in its place, the distance from the input."""
    params = {name: value.detach() for name, value in layer.state_dict().items()}
    params["mix.weight"] = torch.eye(CHANNELS, dtype=torch.float64)[:, :, None, None]
    params["mix.bias"] = torch.zeros(CHANNELS, dtype=torch.float64)
    return ref.ccc_paper(params, maps(), NEIGHBORS) - maps()


MIXES: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "in a sequence": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Identity()),
    "3x3": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "grouped": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, groups=2),
    "without bias": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
    "1x1": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1),
}


@pytest.mark.parametrize("name", MIXES)
def test_defect_14_any_layer_may_mix(name: str) -> None:
    layer = correspondence()
    expected = edges(layer)
    layer.mix = MIXES[name]().double()  # type: ignore[assignment]
    assert_close(layer(maps()), maps() + layer.mix(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("changed", [{"stride": (2, 2)}, {"padding": (1, 1)}])
def test_defect_14_a_convolution_of_another_geometry_is_not_taken_for_the_own(changed: dict[str, Any]) -> None:
    """Its weight has the same shape, but what it gives has not that of the maps."""
    layer = correspondence()
    for name, value in changed.items():
        setattr(layer.mix, name, value)
    with pytest.raises(ValueError, match=r"mix of CCC must keep the shape \(3, 4, 2, 3\) of its input, it gave"):
        layer(maps())


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("name", ["node", "edge"])
def test_defect_14_results_of_another_shape_are_not_spread_over_the_maps(name: str, variant: str) -> None:
    layer = correspondence(variant)
    setattr(layer, name, nn.Sequential(nn.Linear(CELLS, 1)).double())
    with pytest.raises(ValueError, match=f"{name} of CCC must keep the shape"):
        layer(maps())


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_defect_14_a_variant_without_its_mix_or_with_one_is_refused(variant: str, hooked: bool) -> None:
    """A hook must not turn one variant into the other."""
    layer = correspondence(variant)
    layer.mix = None if variant == "paper" else nn.Conv2d(CHANNELS, CHANNELS, 1).double()
    if hooked:
        layer.node.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r'mix of CCC is .*, but variant "paper" needs a layer there') as caught:
        layer(maps())
    assert "\n" not in str(caught.value)


def test_defect_14_the_operator_refuses_a_mix_that_it_would_not_use() -> None:
    x, square, row = maps(), torch.eye(CELLS, dtype=torch.float64), torch.zeros(CELLS, dtype=torch.float64)
    mix = torch.eye(CHANNELS, dtype=torch.float64), torch.zeros(CHANNELS, dtype=torch.float64)
    with pytest.raises(ValueError, match='variant "official" has no mix_weight and mix_bias'):
        functional.ccc(x, square, row, square, row, *mix, k=2, variant="official")


class CallsTwice(nn.Linear):
    def __call__(self, *args: Any) -> Any:
        return 2 * super().__call__(*args)


class ConvolvesTwice(nn.Conv2d):
    def _conv_forward(self, *args: Any) -> Tensor:
        return 2 * super()._conv_forward(*args)


def test_defect_14_a_subclass_that_computes_something_else_is_called() -> None:
    own = correspondence()
    x = maps()
    layer, twin = copy.deepcopy(own), copy.deepcopy(own)
    layer.node = CallsTwice(CELLS, CELLS).double()
    layer.node.load_state_dict(own.node.state_dict())
    for value in twin.node.parameters():
        value.data.mul_(2)
    assert_close(layer(x), twin(x), rtol=1e-10, atol=1e-12)
    layer, twin = copy.deepcopy(own), copy.deepcopy(own)
    layer.mix = ConvolvesTwice(CHANNELS, CHANNELS, 1).double()
    layer.mix.load_state_dict(own.mix.state_dict())
    for value in twin.mix.parameters():
        value.data.mul_(2)
    assert_close(layer(x), twin(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_defect_14_quantised_layers_take_maps_of_any_dtype(variant: str, dtype: torch.dtype) -> None:
    """They compute in float32, also under autocast; the result has the dtype of the block that was quantised."""
    module = F5C(CHANNELS, SIZE, NEIGHBORS, variant).eval()
    randomise(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import quantize_dynamic

        small = quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
    x = maps().to(dtype)
    expected = small.ccc(x.float())
    y = small.ccc(x)
    assert y.dtype == dtype
    assert_close(y, expected.to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        y = small.ccc(x.float())
    assert y.dtype == torch.bfloat16
    assert_close(y, expected.bfloat16(), rtol=0.02, atol=0.02)  # maps are rounded first


def test_defect_14_a_branch_that_cannot_be_replaced_says_so() -> None:
    layer = FCC(CHANNELS, SIZE)
    layer.hv = nn.Sequential(layer.hv)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="cannot be replaced, but are _Branch and Sequential; use") as e:
        layer(maps().float())
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "changed", [{"dilation": (2, 2), "padding": (2, 2)}, {"padding_mode": "circular"}, {"stride": (1, 2)}]
)
@pytest.mark.parametrize("size", [(2, 2), (7, 8)])
def test_defect_14_convolutions_of_the_flow_head_with_another_geometry(
    changed: dict[str, Any], size: tuple[int, int]
) -> None:
    """Called, so that all of their settings count, and not folded; likewise one that has got a bias."""
    layer = Conv(3, 4, 3)
    randomise(layer)
    layer.double().eval()
    given = nn.Conv2d(3, 4, 3, **{"padding": (1, 1), "bias": False, **changed}).double()
    layer.conv = given
    x = seeded(2, 3, *size, dtype=torch.float64)
    expected = nn.functional.leaky_relu(layer.norm(given(x)), SLOPE)
    assert_close(layer(x, (0,)), expected, rtol=1e-10, atol=1e-12)
    layer.fold()
    assert_close(layer(x, (0,)), expected, rtol=1e-10, atol=1e-12)


def test_defect_14_a_bias_is_not_lost_in_folding() -> None:
    layer = Conv(3, 4, 3)
    layer.conv = nn.Conv2d(3, 4, 3, padding=1)
    randomise(layer)
    layer.double().eval()
    x = seeded(2, 3, *SIZE, dtype=torch.float64)
    expected = layer(x, (0,))
    layer.fold()
    assert_close(layer(x, (0,)), expected, rtol=1e-10, atol=1e-12)
