"""The layers with maps and gradients of any layout, their derivatives, and second derivatives."""

from collections.abc import Callable

import pytest
import torch
from harness.compare import as_layer, assert_runs_equal, randomise, run, seeded, state
from harness.f5c import VARIANTS, block
from torch import Tensor

from mol_fast import FCC


def test_second_derivatives_of_fcc() -> None:
    module = FCC(4, (2, 3)).double()
    randomise(module)
    params = list(module.parameters())
    x = seeded(4, 4, 2, 3, dtype=torch.float64).requires_grad_()

    def layer(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip((name for name, _ in module.named_parameters()), values, strict=True))
        return torch.func.functional_call(module, named, (x,), {"groups": 2})

    assert torch.autograd.gradgradcheck(layer, (x, *params))


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "columns first": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "maps last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every second": lambda x: x.repeat_interleave(2, dim=0).repeat_interleave(2, dim=3)[::2, :, :, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_layout(variant: str, layout: str) -> None:
    module = block(6, (3, 4), 2, variant).double()
    x, g = seeded(4, 6, 3, 4, dtype=torch.float64), seeded(4, 6, 3, 4, seed=99, dtype=torch.float64)
    expected = run(as_layer(module, groups=2), state(module), x, g)
    change = LAYOUTS[layout]
    assert change(x).stride() != x.stride()
    actual = run(lambda p, x: as_layer(module, groups=2)(p, change(x)), state(module), x, change(g))
    assert_runs_equal(actual, expected, 1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_expanded_gradient(variant: str) -> None:
    module = block(6, (3, 4), 2, variant).double()
    x = seeded(2, 6, 3, 4, dtype=torch.float64)
    expected = run(as_layer(module), state(module), x, torch.ones_like(x))
    actual = run(as_layer(module), state(module), x, torch.ones((), dtype=x.dtype).expand(x.shape))
    assert_runs_equal(actual, expected, 1e-13)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("variant", "k"), [("paper", 2), ("official", 3)])
def test_gradcheck(variant: str, k: int, training: bool) -> None:
    module = block(4, (2, 3), k, variant, training).double()
    params = state(module)
    names = [name for name, value in params.items() if value.requires_grad]
    x = seeded(4, 4, 2, 3, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return as_layer(module, groups=2)({**params, **dict(zip(names, values, strict=True))}, x)

    assert torch.autograd.gradcheck(function, (x, *(params[name] for name in names)), fast_mode=True)


def test_double_backward() -> None:
    module = block(4, (2, 3), 2, "paper").double()
    x = seeded(3, 4, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(module, (x,), fast_mode=True)
