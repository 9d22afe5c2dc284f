"""Every kernel, as the layers launch it, under the sanitizer: no fault in any layout, at sizes that fill no tile.

float16 stands for both 16-bit dtypes, whose tiles are the same.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton")

from harness.sanitizer import Sanitizer
from mol_fast.kernels import ccc_backward, correlation, fcc, resources

from mol_fast import CCC, F5C, FCC

pytestmark = pytest.mark.sanitizer

Layout = Callable[[Tensor], Tensor]
LAYOUTS: dict[str, Layout] = {
    "contiguous": lambda t: t,
    "channels-last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.mT.contiguous().mT,
    "every-other": lambda t: torch.stack([t, t], dim=-1)[..., 0],
    "expanded": lambda t: t[:1, :1, :1, :1].expand(t.shape),
}
DTYPES = {"float32": torch.float32, "float16": torch.float16}
each_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)

SPARE = {"p_partial", "p_moments"}
"""FCC's partial sums are rows for the longer of two sides; moments are those of batch statistics."""


def step(layer: nn.Module, x: Tensor, *groups: int, layout: Layout = LAYOUTS["contiguous"]) -> None:
    """Forward and backward of `layer`, in training or in evaluation as it stands, maps and gradients in `layout`."""
    leaf = layout(x).detach().requires_grad_()
    y = layer(leaf, *groups)
    torch.autograd.grad(y, [leaf, *layer.parameters()], layout(torch.randn_like(y)))


def of(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`layer` with parameters that no symmetry hides, in `dtype`."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer.to(dtype)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["one-launch", "two-launches"])
def map_gradients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """CCC makes the gradients of the maps in one launch for many maps, in two for few."""
    monkeypatch.setattr(ccc_backward, "MANY", 1 if request.param == "one-launch" else 10**6)


def check(run: Callable[[], object]) -> set[str]:
    """The kernels that `run` launched, without a fault."""
    with Sanitizer(SPARE) as sanitizer:
        run()
    assert not sanitizer.faults, sanitizer.report()
    return sanitizer.kernels


# N, C, H, W, groups: sides that fill no tile, several maps of a tile, blocks of rows, single rows, the largest side.
FCC_CASES = [(4, 2, 5, 12, 2), (11, 2, 4, 5, 1), (1, 2, 33, 20, 1), (2, 2, 1, 1, 1), (1, 2, 1, 64, 1), (1, 2, 64, 3, 1)]


@pytest.mark.parametrize("case", FCC_CASES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@each_dtype
def test_fcc(case: tuple[int, ...], training: bool, dtype: torch.dtype) -> None:
    n, c, h, w, groups = case
    layer = of(FCC(c, (h, w), backend="triton"), dtype).train(training)
    check(lambda: step(layer, torch.randn(n, c, h, w, dtype=dtype), *([groups] if training else [])))


def update_running() -> None:
    """Update the running statistics of halves that are longer than a tile, by those of two groups."""
    half, groups = 130, 2
    running = [*torch.rand(4, half).unbind(), torch.tensor(5), torch.tensor(7)]
    fcc.fcc_running(*torch.rand(2, groups, 2 * half), running, 0.1, 8)


def test_running_statistics() -> None:
    check(update_running)


# N, C, H, W, k: sizes that fill no tile, one neighbour and all, ranks of half a byte and of two bytes, an odd area,
# one node.
CCC_CASES = [(2, 6, 5, 12, 2), (1, 6, 4, 4, 1), (1, 5, 3, 3, 5), (1, 40, 9, 5, 4), (1, 20, 3, 3, 17), (1, 1, 1, 1, 1)]


@pytest.mark.parametrize("case", CCC_CASES)
@each_dtype
def test_ccc(case: tuple[int, ...], dtype: torch.dtype) -> None:
    n, c, h, w, k = case
    check(lambda: step(of(CCC(c, (h, w), k, backend="triton"), dtype), torch.randn(n, c, h, w, dtype=dtype)))


@pytest.mark.usefixtures("map_gradients")
@pytest.mark.parametrize("case", [(2, 6, 4, 12, 2), (1, 40, 8, 8, 3), (1, 20, 4, 4, 17)])
@each_dtype
def test_ccc_with_either_gradient(case: tuple[int, ...], dtype: torch.dtype) -> None:
    n, c, h, w, k = case
    check(lambda: step(of(CCC(c, (h, w), k, backend="triton"), dtype), torch.randn(n, c, h, w, dtype=dtype)))


# N, C, H, W, max_displacement, stride, slope: windows within the map and beyond, residues without rows, several tiles.
CORRELATION_CASES = [
    (1, 6, 5, 12, 20, 2, 1.0),
    (2, 3, 7, 4, 5, 2, 0.1),
    (1, 2, 6, 33, 3, 2, 0.1),
    (1, 2, 8, 7, 6, 3, 0.0),
    (1, 130, 2, 3, 0, 1, 0.1),
]


def correlate(a: Tensor, b: Tensor, *window: float, layout: Layout = LAYOUTS["contiguous"]) -> None:
    a, b = (layout(t).detach().requires_grad_() for t in (a, b))
    y = correlation.correlation(a, b, *window)  # type: ignore[arg-type]
    torch.autograd.grad(y, [a, b], layout(torch.randn_like(y)))


@pytest.mark.parametrize("case", CORRELATION_CASES)
@each_dtype
def test_correlation(case: tuple[float, ...], dtype: torch.dtype) -> None:
    n, c, h, w = (int(size) for size in case[:4])
    check(lambda: correlate(*torch.randn(2, n, c, h, w, dtype=dtype), *case[4:]))


@each_layout
def test_layouts(layout: Layout) -> None:
    """Maps and gradients alike; the gradient of `y.sum()` is expanded."""
    layer = of(F5C(4, (5, 6), 2, backend="triton"), torch.float32)
    check(lambda: step(layer, torch.randn(2, 4, 5, 6), layout=layout))
    check(lambda: step(layer.eval(), torch.randn(2, 4, 5, 6), layout=layout))
    check(lambda: correlate(*torch.randn(2, 1, 3, 5, 6), 4, 2, 0.1, layout=layout))


@torch.no_grad()
def test_inference() -> None:
    layer = of(F5C(6, (5, 12), 2, backend="triton"), torch.float32).eval()
    check(lambda: layer(torch.randn(2, 6, 5, 12)))


def test_under_autocast() -> None:
    """The mixed dtypes of training: float32 parameters, 16-bit maps."""
    layer = of(F5C(2, (5, 6), 2, backend="triton"), torch.float32)
    with torch.autocast("cpu", torch.float16):
        check(lambda: step(layer, torch.randn(4, 2, 5, 6), 2))


def test_every_kernel_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ships is what these cases launch."""
    layer = of(F5C(2, (4, 4), 2, backend="triton"), torch.float32)
    kernels = check(lambda: step(layer, torch.randn(2, 2, 4, 4)))
    kernels |= check(lambda: step(layer.eval(), torch.randn(2, 2, 4, 4)))
    monkeypatch.setattr(ccc_backward, "MANY", 1)
    kernels |= check(lambda: step(layer, torch.randn(3, 2, 4, 4)))
    kernels |= check(lambda: correlate(*torch.randn(2, 1, 2, 4, 4), 2, 1, 0.1))
    shipped = {
        launch.name for name in resources.OPERATORS for _, launch in resources.shipped(name, torch.float32, "cuda")
    }
    assert kernels >= shipped
