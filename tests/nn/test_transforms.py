"""The block under the transformations of torch.func, held to ordinary autograd, and its second derivatives."""

import warnings
from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
from harness.compare import randomise, seeded, state
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap
from torch.testing import assert_close

from mol_fast import F5C
from mol_fast.ops.ccc import edge_max

VARIANTS = ("paper", "official")


@pytest.fixture(autouse=True)
def no_slow_path_warnings() -> Iterator[None]:
    """PyTorch warns of operations that it vectorises with a loop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def block(variant: str, training: bool = False) -> F5C:
    module = F5C(4, (2, 3), 2, variant).double().train(training)
    randomise(module)
    return module


def tensors(module: F5C) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the parameters and of the buffers."""
    values = {name: value.detach() for name, value in state(module).items()}
    names = dict(module.named_parameters())
    return {name: values[name] for name in names}, {name: values[name] for name in values if name not in names}


def maps(n: int = 3) -> Tensor:
    return seeded(n, 4, 2, 3, dtype=torch.float64)


def loss_of(module: F5C) -> Callable[..., Tensor]:
    return lambda params, buffers, x: functional_call(module, (params, buffers), (x,)).pow(3).sum()


def by_autograd(module: F5C, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    loss = loss_of(module)(leaves, {name: value.clone() for name, value in buffers.items()}, x)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_grad(variant: str, training: bool) -> None:
    module = block(variant, training)
    params, buffers = tensors(module)
    expected = by_autograd(module, params, buffers, maps())
    assert_close(grad(loss_of(module))(params, buffers, maps()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_per_sample(variant: str) -> None:
    module = block(variant)
    params, buffers = tensors(module)
    actual = vmap(grad(loss_of(module)), (None, None, 0))(params, buffers, maps()[:, None])
    for i, x in enumerate(maps()):
        expected = by_autograd(module, params, buffers, x[None])
        assert_close({name: value[i] for name, value in actual.items()}, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ensemble(variant: str) -> None:
    """Several sets of parameters on the same maps, which every set sees alike."""
    module = block(variant)
    params, buffers = tensors(module)
    both = {name: torch.stack([value, value.flip(0)]) for name, value in params.items()}
    actual = vmap(grad(loss_of(module)), (0, None, None))(both, buffers, maps())
    for i in range(2):
        expected = by_autograd(module, {name: value[i] for name, value in both.items()}, buffers, maps())
        assert_close({name: value[i] for name, value in actual.items()}, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_jacobian(variant: str) -> None:
    module = block(variant)
    expected = torch.autograd.functional.jacobian(module, maps(2))
    assert_close(jacrev(module)(maps(2)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_second_derivatives(variant: str, training: bool) -> None:
    """Of input and parameters, against differences of the first ones; torch.func gives the same."""
    module = block(variant, training)
    params, buffers = tensors(module)

    def function(x: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(params, values, strict=True)), {name: value.clone() for name, value in buffers.items()}
        return functional_call(module, given, (x,)).square()

    inputs = [value.clone().requires_grad_() for value in (maps(), *params.values())]
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    if not training:

        def penalty(x: Tensor) -> Tensor:
            return grad(loss_of(module), 2)(params, buffers, x).square().sum()

        x = maps().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(module)(params, buffers, x), x, create_graph=True)
        (expected,) = torch.autograd.grad(slope.square().sum(), x)
        assert_close(grad(penalty)(maps()), expected, rtol=1e-11, atol=1e-11)


def test_forward_mode_is_refused() -> None:
    x = maps()
    with pytest.raises(NotImplementedError, match="forward mode"):
        torch.func.jvp(block("paper"), (x,), (x,))


@pytest.mark.parametrize("dims", [(2, 1, 0, 1), *(dims for dims in product((0, None), repeat=4) if 0 in dims)])
def test_edges_of_batches(dims: tuple[int | None, ...]) -> None:
    """Products, neighbours, and gradients that come back: each may be the same for the whole batch."""
    size, n, v, d, k = 3, 2, 5, 4, 2
    values = (
        seeded(size, n, v, d, dtype=torch.float64),
        seeded(size, n, v, d, seed=1, dtype=torch.float64),
        torch.randint(0, v, (size, n, v, k), generator=torch.Generator().manual_seed(0)),
        seeded(size, n, v, d, seed=2, dtype=torch.float64),
    )

    def both(p: Tensor, q: Tensor, index: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        y, backward = torch.func.vjp(lambda p, q: edge_max(p, q, index), p, q)
        return y, *backward(g)

    given = [value[0] if dim is None else value.movedim(0, dim) for value, dim in zip(values, dims, strict=True)]
    actual = vmap(both, dims)(*given)
    for i in range(size):
        p, q, index, g = (value[0 if dim is None else i] for value, dim in zip(values, dims, strict=True))
        p, q = p.clone().requires_grad_(), q.clone().requires_grad_()
        others = q.gather(1, index.flatten(1)[:, :, None].expand(-1, -1, d)).unflatten(1, (v, k))
        expected = torch.relu(p + torch.cat([q[:, :, None], others], dim=2).amax(dim=2))
        for ours, true in zip(actual, (expected, *torch.autograd.grad(expected, (p, q), g)), strict=True):
            assert_close(ours[i], true, rtol=1e-14, atol=1e-14)
