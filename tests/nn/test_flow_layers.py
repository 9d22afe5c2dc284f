"""The layers of the flow head held to PyTorch's convolutions, on maps of few cells and of more."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from harness.compare import randomise, seeded
from torch import Tensor
from torch.testing import assert_close

from mol_fast.nn.flow_head import FlowHead
from mol_fast.nn.flow_layers import LARGE, SLOPE, Conv, Deconv, Predict, _convolve, _LeakyReLU

N, INPUTS, OUTPUTS = 3, 5, 4
CONVOLUTIONS = [(6, 2), (4, 2), (2, 2), (1, 1), (3, 1), (3, 2)]
"""Kernel and stride of every convolution of the flow head."""
RESULTS = [(1, 1), (1, 4), (4, 1), (2, 2), (1, 5), (2, 3), (4, 4)]
"""Sizes of their results; those of up to `FEW` cells are a matrix product."""
FEW = 4
FORMATS = [torch.contiguous_format, torch.channels_last]


def assert_same(
    actual: Callable[[Tensor, Tensor], Tensor], expected: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor
) -> None:
    """Results, and gradients of both arguments, in float64, where sums of a hundred products keep 13 digits."""
    results = []
    for function in (actual, expected):
        leaves = [value.detach().clone().requires_grad_() for value in (x, weight)]
        y = function(*leaves)
        g = seeded(*y.shape, seed=9, dtype=y.dtype)
        results.append([y.detach(), *torch.autograd.grad(y, leaves, g)])
    assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Filled with the names of PyTorch's convolutions that are called."""
    called: list[str] = []
    for name in ("conv2d", "conv_transpose2d"):
        function = getattr(F, name)
        monkeypatch.setattr(
            F,
            name,
            lambda *given, name=name, function=function, **named: (called.append(name), function(*given, **named))[1],
        )
    return called


def test_the_flow_head_has_these_convolutions() -> None:
    head = FlowHead(8, width=0.05)
    convolutions = [layer.conv for layer in head.modules() if isinstance(layer, Conv)]
    assert {(conv.kernel_size[0], conv.stride[0]) for conv in convolutions} == set(CONVOLUTIONS)
    assert all(conv.padding == ((conv.kernel_size[0] - 1) // 2,) * 2 for conv in convolutions)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize(("kernel", "stride"), CONVOLUTIONS)
def test_convolution(
    kernel: int, stride: int, result: tuple[int, int], memory_format: torch.memory_format, native: list[str]
) -> None:
    """Every size that gives this result, even and odd."""
    padding = (kernel - 1) // 2
    weight = seeded(OUTPUTS, INPUTS, kernel, kernel, seed=1, dtype=torch.float64)
    weight = weight.contiguous(memory_format=memory_format)
    bias = seeded(OUTPUTS, seed=2, dtype=torch.float64)
    reference = F.conv2d
    for more in range(stride):
        height, width = (max(1, (cells - 1) * stride + kernel - 2 * padding) + more for cells in result)
        x = seeded(N, INPUTS, height, width, dtype=torch.float64).contiguous(memory_format=memory_format)
        assert_same(
            lambda x, w: _convolve(x, w, bias, stride, padding),
            lambda x, w: reference(x, w, bias, stride, padding),
            x,
            weight,
        )
        native.clear()
        assert tuple(_convolve(x, weight, None, stride, padding).shape[2:]) == result
        assert bool(native) == (result[0] * result[1] > FEW)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", RESULTS)
def test_transposed_convolution(size: tuple[int, int], memory_format: torch.memory_format, native: list[str]) -> None:
    layer = Deconv(INPUTS, OUTPUTS).double()
    reference = F.conv_transpose2d
    x = seeded(N, INPUTS, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    weight = seeded(*layer.weight.shape, seed=1, dtype=torch.float64).contiguous(memory_format=memory_format)
    assert_same(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x,)),
        lambda x, w: reference(x, w, None, 2, 1),
        x,
        weight,
    )
    native.clear()
    assert tuple(layer(x).shape) == (N, OUTPUTS, 2 * size[0], 2 * size[1])
    assert bool(native) == (size[0] * size[1] > FEW)


def test_leaky_relu_for_the_compiler() -> None:
    """The gradient that it takes from the sign of the result, at zero, too."""
    x = torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0]).requires_grad_()
    g = torch.arange(1.0, 7.0)
    y, expected = _LeakyReLU.apply(x), F.leaky_relu(x, SLOPE)
    assert torch.equal(y, expected)
    assert_close(*(torch.autograd.grad(value, x, g)[0] for value in (y, expected)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("cells", "product"), [((4, 4), True), ((4, 5), False)])
def test_half_precision_multiplies_up_to_more_cells(
    cells: tuple[int, int], product: bool, dtype: torch.dtype, native: list[str]
) -> None:
    """Results and gradients are those of float32 but for a few roundings."""
    down, up = Conv(64, 32, 3), Deconv(64, 32)
    x = seeded(N, 64, *cells).to(dtype)
    for layer, function in (
        (down.conv, lambda x, w: _convolve(x, w, None, 1, 1)),
        (up, lambda x, w: torch.func.functional_call(up, {"weight": w}, (x,))),
    ):
        weight = layer.weight.detach().to(dtype)
        native.clear()
        y = function(x, weight)
        assert bool(native) != product
        leaves = [value.float().requires_grad_() for value in (x, weight)]
        half = [value.detach().to(dtype).requires_grad_() for value in leaves]
        g = seeded(*y.shape, seed=9).to(dtype)
        expected = torch.autograd.grad(function(*leaves), leaves, g.float())
        for actual, true in zip(torch.autograd.grad(function(*half), half, g), expected, strict=True):
            assert float((actual.float() - true).norm() / true.norm()) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 2), (5, 3), (LARGE, LARGE), (LARGE, LARGE + 1), (LARGE + 1, LARGE), (LARGE + 2, LARGE)]
)
def test_predictor(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    layer = Predict(INPUTS).double()
    x = seeded(N, INPUTS, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    weight = seeded(*layer.weight.shape, seed=1, dtype=torch.float64)
    assert_same(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x,)),
        lambda x, w: F.conv2d(x, w, None, 1, 1),
        x,
        weight,
    )


@pytest.mark.parametrize("size", [(5, 3), (LARGE, LARGE)])
def test_predictor_of_maps_in_parts(size: tuple[int, int]) -> None:
    layer = Predict(INPUTS).double()
    x = seeded(N, INPUTS, *size, dtype=torch.float64)
    weight = seeded(*layer.weight.shape, seed=1, dtype=torch.float64)
    assert_same(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x[:, 2:-1], x[:, [0, 1, -1]], 2)),
        lambda x, w: F.conv2d(x, w, None, 1, 1),
        x,
        weight,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictor_under_autocast(dtype: torch.dtype) -> None:
    layer = Predict(INPUTS)
    x = seeded(N, INPUTS, LARGE, LARGE).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        flow = layer(x)
        with torch.no_grad():
            assert torch.equal(layer(x), flow)
    assert flow.dtype == torch.bfloat16
    flow.sum().backward()
    for leaf in (layer.weight, x):
        assert leaf.grad is not None
        assert leaf.grad.dtype == leaf.dtype
        true = torch.autograd.grad(F.conv2d(x.float(), layer.weight, None, 1, 1).sum(), leaf)[0]
        assert float((leaf.grad - true).norm() / true.norm()) < torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("wanted", [0, 1])
def test_predictor_gives_the_gradients_that_are_wanted(wanted: int) -> None:
    """Of the maps under a frozen predictor, or of the weight."""
    layer = Predict(INPUTS).double()
    leaves = [seeded(N, INPUTS, 3, 4, dtype=torch.float64), layer.weight.detach()]
    leaves[wanted].requires_grad_()
    y = torch.func.functional_call(layer, {"weight": leaves[1]}, (leaves[0],))
    expected = F.conv2d(leaves[0], leaves[1], None, 1, 1)
    g = seeded(*y.shape, seed=9, dtype=y.dtype)
    assert_close(*(torch.autograd.grad(flow, leaves[wanted], g) for flow in (y, expected)))


def test_predictor_transformed() -> None:
    """Differentiated twice, with respect to both arguments, and vectorised."""
    layer = Predict(2).double()
    x = seeded(1, 2, LARGE, LARGE, dtype=torch.float64)
    weight = layer.weight.detach()

    def flow(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    assert torch.autograd.gradgradcheck(
        flow, (x.clone().requires_grad_(), weight.clone().requires_grad_()), fast_mode=True
    )
    small = x[:, :, :2, :3]
    actual = torch.func.jacrev(flow, (0, 1))(small, weight)
    assert_close(actual, torch.func.jacrev(lambda x, w: F.conv2d(x, w, None, 1, 1), (0, 1))(small, weight))


def test_a_frozen_predictor_can_be_traced() -> None:
    layer = Predict(2).requires_grad_(False)
    x = seeded(1, 2, LARGE, LARGE)
    traced = torch.jit.trace(layer, x)
    assert_close(traced(x + 1), F.conv2d(x + 1, layer.weight, None, 1, 1))


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (6, 10), (LARGE, LARGE)])
def test_no_maps(size: tuple[int, int]) -> None:
    x = torch.zeros(0, INPUTS, *size, requires_grad=True)
    results = (
        Conv(INPUTS, OUTPUTS, 3)(x, [0]),
        Conv(INPUTS, OUTPUTS, 4, 2)(x, [0]),
        Deconv(INPUTS, OUTPUTS)(x),
        Predict(INPUTS)(x),
    )
    sizes = (size, (size[0] // 2, size[1] // 2), (2 * size[0], 2 * size[1]), size)
    for result, channels, cells in zip(results, (OUTPUTS, OUTPUTS, OUTPUTS, 2), sizes, strict=True):
        assert result.shape == (0, channels, *cells)
        assert torch.autograd.grad(result.sum(), x)[0].shape == x.shape


def normalised(kernel: int, stride: int) -> Conv:
    """A layer in evaluation mode whose normalisation has factors of either sign."""
    layer = Conv(INPUTS, OUTPUTS, kernel, stride).double().eval()
    randomise(layer)
    return layer


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (7, 6), (8, 12)])
@pytest.mark.parametrize(("kernel", "stride"), CONVOLUTIONS)
def test_folded(kernel: int, stride: int, size: tuple[int, int]) -> None:
    """Convolution, normalisation by the running statistics and LeakyReLU; folding keeps it, a second time too."""
    size = size if kernel < 4 else (2 * size[0], 2 * size[1])
    layer = normalised(kernel, stride)
    norm, conv = layer.norm, layer.conv
    assert norm is not None
    x = seeded(N, INPUTS, *size, dtype=torch.float64)
    with torch.no_grad():
        y = F.conv2d(x, conv.weight, None, stride, (kernel - 1) // 2)
        y = F.batch_norm(y, *norm.running(), norm.weight, norm.bias, False, 0.1, norm.eps)
        expected = F.leaky_relu(y, SLOPE)
        assert_close(layer(x, [0]), expected, rtol=1e-12, atol=1e-12)
        layer.fold()
        folded = conv.weight.clone(), conv.bias.clone()
        assert_close(layer(x, [0]), expected, rtol=1e-12, atol=1e-12)
        layer.fold()
    assert layer.norm is None
    assert torch.equal(conv.weight, folded[0])
    assert torch.equal(conv.bias, folded[1])


@pytest.mark.parametrize("size", [(2, 2), (3, 4)])
def test_left_out_channels(size: tuple[int, int]) -> None:
    """Input channels that are zero may be left out, with the part of the weight that is theirs."""
    layer = normalised(3, 1)
    x = seeded(N, INPUTS, *size, dtype=torch.float64)
    x[:, 3:] = 0
    with torch.no_grad():
        assert_close(layer(x[:, :3], [0], layer.conv.weight[:, :3]), layer(x, [0]), rtol=1e-12, atol=1e-12)
