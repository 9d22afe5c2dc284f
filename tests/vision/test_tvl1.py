"""TV-L1 flow, against exact flow and OpenCV's Dual TV-L1 (tests/golden/tvl1.npz), and as mathematics has it."""

import itertools
import math
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from harness.golden import DATA
from torch import Tensor

from mol_fast import tvl1
from mol_fast.data.embedded.subjects import TEXELS, make_subject
from mol_fast.metrics import flow_sums
from mol_fast.tvl1 import compiled, flow, tensors

Array = np.ndarray

AGREEMENT = 0.03  # px, mean; between two implementations of the method
ROUNDING = 0.01  # px, largest; float32 rounding, carried through 500 iterations
SENSOR_NOISE = 1.8  # grey levels; the strongest in the embedded set


@pytest.fixture(scope="module")
def pairs() -> dict[str, Tensor]:
    """`previous`, `next` (10, 128, 128); `flow`, `cv2_tvl1` (10, 2, 128, 128); `amplitude` (10,)."""
    with np.load(DATA / "tvl1.npz", allow_pickle=False) as archive:
        content = {name: torch.from_numpy(archive[name]) for name in ("previous", "next", "amplitude")}
        return content | {name: torch.from_numpy(archive[name]).permute(0, 3, 1, 2) for name in ("flow", "cv2_tvl1")}


@pytest.fixture(params=["compiled", "eager"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's code, and PyTorch's operators."""
    if request.param == "eager":
        monkeypatch.setattr(tvl1, "_refinement", lambda device: tensors.refine)


@pytest.fixture(scope="module")
def estimate(pairs: dict[str, Tensor]) -> Tensor:
    return flow(pairs["previous"], pairs["next"])


def lengths(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1)


def waves(x: Tensor, y: Tensor) -> Tensor:
    """A grey image without noise, known at every point."""
    slow = 40 * torch.sin(0.31 * x + 0.17 * y) + 35 * torch.sin(0.37 * y - 0.13 * x + 1)
    return 128 + slow + 25 * torch.sin(0.55 * x - 0.49 * y + 2)


def moving_error(result: Tensor, pairs: dict[str, Tensor]) -> float:
    """End-point error over moving pixels, mean over the pairs of amplitude >= 0.5."""
    chosen = [i for i, amplitude in enumerate(pairs["amplitude"]) if amplitude >= 0.5]
    scores = [flow_sums(result[i : i + 1], pairs["flow"][i : i + 1]).scores() for i in chosen]
    return float(np.mean([score.moving_error for score in scores]))


def test_exact_flow_is_met_about_as_well_as_by_opencv(estimate: Tensor, pairs: dict[str, Tensor]) -> None:
    assert moving_error(pairs["cv2_tvl1"], pairs) == pytest.approx(0.089, abs=5e-4)  # the measure itself
    assert moving_error(estimate, pairs) <= 0.095


def test_it_is_the_flow_of_opencv(estimate: Tensor, pairs: dict[str, Tensor]) -> None:
    assert lengths(estimate - pairs["cv2_tvl1"]).mean() <= AGREEMENT


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("size", [(37, 59), (16, 33)])
def test_a_pair_has_the_same_flow_alone_and_in_any_batch(size: tuple[int, int], pairs: dict[str, Tensor]) -> None:
    height, width = size
    previous, next = (pairs[name][:, :height, :width] for name in ("previous", "next"))
    together = flow(previous, next)
    assert all(torch.equal(flow(previous[i : i + 1], next[i : i + 1])[0], together[i]) for i in range(0, 10, 3))
    assert torch.equal(flow(previous[3:].flip(0), next[3:].flip(0)).flip(0), together[3:])


def test_images_that_are_the_same_do_not_flow(pairs: dict[str, Tensor]) -> None:
    assert flow(pairs["previous"], pairs["previous"]).abs().max() < 1e-3


@pytest.mark.parametrize("shift", [(0.4, -0.7), (-1.25, 0.5), (2.3, 1.2), (-4.5, 3.25)])
def test_a_translation_is_found(shift: tuple[float, float]) -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(112.0), indexing="ij")
    found = flow(waves(x, y)[None], waves(x - shift[0], y - shift[1])[None])
    error = lengths(found - torch.tensor(shift).view(1, 2, 1, 1))[:, 8:-8, 8:-8]
    assert error.mean() < 0.1


def test_levels_hand_their_flow_on_in_pixels_of_the_next() -> None:
    shift = (-4.5, 3.25)  # too far for the finest level and two warps
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(112.0), indexing="ij")
    found = flow(waves(x, y)[None], waves(x - shift[0], y - shift[1])[None], levels=3, factor=0.5, warps=2)
    assert lengths(found - torch.tensor(shift).view(1, 2, 1, 1))[:, 8:-8, 8:-8].mean() < 0.1


def one_warp(previous: Array, next: Array, iterations: int, tau: float, lambda_: float, theta: float) -> Array:
    """The iterations of the 2007 paper from u = 0, pixel by pixel in float64; flow (2, H, W)."""
    height, width = previous.shape
    pixels = list(itertools.product(range(height), range(width)))
    u, v = np.zeros((2, 2, height, width))
    p = np.zeros((2, 2, height, width))  # component of the flow, direction of the derivative (x, y)
    for _ in range(iterations):
        for i, j in pixels:
            up, down, left, right = max(i - 1, 0), min(i + 1, height - 1), max(j - 1, 0), min(j + 1, width - 1)
            gradient = np.array([next[i, right] - next[i, left], next[down, j] - next[up, j]]) / 2
            rho = next[i, j] + gradient @ u[:, i, j] - previous[i, j]
            bound = lambda_ * theta * (gradient @ gradient)
            if rho < -bound:
                change = lambda_ * theta * gradient
            elif rho > bound:
                change = -lambda_ * theta * gradient
            else:
                change = -rho * gradient / (gradient @ gradient) if bound else np.zeros(2)
            v[:, i, j] = u[:, i, j] + change
        for k, (i, j) in itertools.product(range(2), pixels):
            divergence = p[k, 0, i, j] - (p[k, 0, i, j - 1] if j else 0)
            divergence += p[k, 1, i, j] - (p[k, 1, i - 1, j] if i else 0)
            u[k, i, j] = v[k, i, j] + theta * divergence
        for k, (i, j) in itertools.product(range(2), pixels):
            x = u[k, i, j + 1] - u[k, i, j] if j + 1 < width else 0
            y = u[k, i + 1, j] - u[k, i, j] if i + 1 < height else 0
            p[k, :, i, j] += tau / theta * np.array([x, y])
            p[k, :, i, j] /= 1 + tau / theta * np.hypot(x, y)
    return u


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("tau", "lambda_", "theta"), [(0.25, 0.15, 0.3), (0.2, 0.05, 0.5)])
def test_iterations_are_those_of_the_paper(tau: float, lambda_: float, theta: float, pairs: dict[str, Tensor]) -> None:
    previous, next = (pairs[name][4, 40:57, 50:72] for name in ("previous", "next"))
    found = flow(previous[None], next[None], levels=1, warps=1, iterations=9, tau=tau, lambda_=lambda_, theta=theta)
    expected = one_warp(previous.double().numpy(), next.double().numpy(), 9, tau, lambda_, theta)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_transposed_images_give_transposed_flow(estimate: Tensor, pairs: dict[str, Tensor]) -> None:
    transposed = flow(pairs["previous"].mT, pairs["next"].mT)
    assert (transposed.mT.flip(1) - estimate).abs().max() < ROUNDING


@pytest.mark.parametrize(("axis", "component"), [(-1, 0), (-2, 1)])
def test_mirrored_images_give_mirrored_flow(
    axis: int, component: int, estimate: Tensor, pairs: dict[str, Tensor]
) -> None:
    mirrored = flow(pairs["previous"].flip(axis), pairs["next"].flip(axis)).flip(axis)
    mirrored[:, component] *= -1
    assert lengths(mirrored - estimate).mean() < AGREEMENT  # forward differences are not symmetric


def test_a_still_face_with_sensor_noise_hardly_flows() -> None:
    margin = 16
    rng = torch.Generator().manual_seed(0)
    faces = torch.cat([make_subject(0, index, margin).texture[0] for index in range(4)])
    still = torch.nn.functional.avg_pool2d(faces, TEXELS)[:, margin:-margin, margin:-margin]
    seen = [still + SENSOR_NOISE * torch.randn(still.shape, generator=rng) for _ in range(2)]
    previous, next = (frames.round().clamp(0, 255).byte() for frames in seen)
    assert lengths(flow(previous, next)).mean() < 0.03


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.float16, torch.float32, torch.float64])
def test_every_dtype_gives_the_flow_of_uint8(dtype: torch.dtype, estimate: Tensor, pairs: dict[str, Tensor]) -> None:
    result = flow(pairs["previous"][:1].to(dtype), pairs["next"][:1])
    assert result.dtype == torch.float32
    assert torch.equal(result, estimate[:1])


def test_no_pairs_have_no_flow() -> None:
    assert flow(torch.zeros(0, 20, 30), torch.zeros(0, 20, 30)).shape == (0, 2, 20, 30)


def test_flow_has_no_gradient() -> None:
    image = torch.rand(1, 16, 16, requires_grad=True)
    assert not flow(image, image).requires_grad


def test_compiled_is_eager_within_rounding(
    estimate: Tensor, pairs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvl1, "_refinement", lambda device: tensors.refine)
    difference = (flow(pairs["previous"], pairs["next"]) - estimate).abs()
    assert difference.max() < ROUNDING
    assert difference.mean() < 5e-5


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_any_number_of_threads_gives_the_same_flow(pairs: dict[str, Tensor]) -> None:
    previous, next = pairs["previous"][:, :40], pairs["next"][:, :40]
    found = []
    for number in (1, 3):
        torch.set_num_threads(number)
        found.append(flow(previous, next))
    assert torch.equal(*found)


def test_without_numba_pytorch_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert tvl1._refinement(cpu) is compiled.refine
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "mol_fast.tvl1.compiled")
    monkeypatch.delattr(tvl1, "compiled")
    assert tvl1._refinement(cpu) is tensors.refine


@pytest.mark.parametrize("reach", [0.4, 3.0, 60.0])
def test_the_compiled_warp_is_grid_sample(reach: float) -> None:
    """Also far outside of the image, on pixels, and just beside them."""
    generator = torch.Generator().manual_seed(0)
    height, width = 19, 26
    u = reach * torch.randn(2, height, width, generator=generator)
    u[:, 3:6] = u[:, 3:6].round()
    u[:, 6:8] = u[:, 6:8].round() - 1e-7
    images = torch.randn(3, height, width, generator=generator)
    padded = torch.nn.functional.pad(images[None], (4, 4, 0, 0), mode="replicate")[0].numpy()
    warped = np.zeros((3, height, width + 1), np.float32)
    compiled._warp(warped, torch.nn.functional.pad(u, (0, 1, 0, 1)).numpy(), padded)
    expected = tensors._warp(images[None].double(), u[None].double())[0]
    np.testing.assert_allclose(warped[..., :-1], expected, atol=2e-5)
    assert not warped[..., -1].any()


def test_compiled_iterations_are_the_eager_ones_on_every_border() -> None:
    """Over several iterations and two linearisations, from a flow that is steep on all borders."""
    generator = torch.Generator().manual_seed(0)
    height, width = 17, 23

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    u = 3 * random(2, height, width)
    iterate = tensors._Iterations(u[None].clone())
    places = np.zeros((2, height + 1, width + 1), np.float32)
    places[:, :-1, :-1] = u
    dual = np.zeros((4, height + 1, width + 1), np.float32)
    for _ in range(2):
        pull, offset, slope = random(2, height, width), random(height, width), random(height, width)
        data = np.zeros((4, height, width + 1), np.float32)
        data[:, :, :-1] = torch.stack([*pull, offset, slope])
        flat = *places.reshape(2, -1), *dual.reshape(4, -1), *data.reshape(4, -1)
        compiled._iterate(*flat, height, 5, np.float32(0.25), np.float32(0.8))
        for _ in range(5):
            iterate(tensors._Data(pull[None], offset[None, None], slope * pull[None]), 0.25, 0.8)
        np.testing.assert_allclose(places[:, :-1, :-1], iterate.u[0], atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_is_cpu_within_rounding_and_the_same_in_any_batch(estimate: Tensor, pairs: dict[str, Tensor]) -> None:
    previous, next = pairs["previous"].cuda(), pairs["next"].cuda()
    on_gpu = flow(previous, next)
    assert (on_gpu.cpu() - estimate).abs().max() < ROUNDING
    assert torch.equal(flow(previous[4:5], next[4:5]), on_gpu[4:5])


IMAGE = torch.zeros(2, 20, 30)


@pytest.mark.parametrize(
    ("previous", "next", "message"),
    [
        (IMAGE[0], IMAGE[0], r"previous must be \(B, H, W\)"),
        (IMAGE, IMAGE[None], r"next must be \(B, H, W\)"),
        (IMAGE, IMAGE[:1], "next must have the shape of previous"),
        (IMAGE[:, :15], IMAGE[:, :15], "previous must have sides of at least 16"),
        (IMAGE[..., :15], IMAGE[..., :15], "previous must have sides of at least 16"),
        (IMAGE.bool(), IMAGE, "previous must hold grey levels"),
        (IMAGE, IMAGE.to(torch.complex64), "next must hold grey levels"),
        (IMAGE, IMAGE.to("meta"), "next must be on the device of previous"),
        (IMAGE.index_fill(0, torch.tensor(1), math.nan), IMAGE, "previous has values that are not finite"),
        (IMAGE, IMAGE.index_fill(2, torch.tensor(7), math.inf), "next has values that are not finite"),
    ],
)
def test_bad_images_are_named(previous: Tensor, next: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow(previous, next)


@pytest.mark.parametrize(
    "setting",
    [
        {"levels": 0},
        {"warps": 0},
        {"iterations": 0},
        {"tau": 0.0},
        {"lambda_": -0.1},
        {"theta": math.nan},
        {"theta": math.inf},
        {"factor": 1.0},
        {"factor": 0.0},
    ],
)
def test_bad_settings_are_named(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be"):
        flow(IMAGE, IMAGE, **setting)  # type: ignore[arg-type]
