"""The baselines themselves: what they read of a clip, and what they are fitted to."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from mol_fast.baselines.apex_flow import apex_flow
from mol_fast.baselines.histograms import FEATURES, Histograms, region_features
from mol_fast.baselines.majority import Majority
from mol_fast.baselines.residual import ResNet3D, _Conv3d
from mol_fast.baselines.ststnet import STSTNet, flow_and_strain
from mol_fast.data import ClipDataset, PreparedSet, Protocol
from mol_fast.spotting.regions import REGIONS

PAIRS, SIZE = 7, 128


@pytest.fixture(scope="module")
def face(embedded_small: PreparedSet) -> torch.Tensor:
    """Landmarks of a still face, (1, 8, 68, 2)."""
    return embedded_small.videos[0].read().landmarks[:1].repeat(8, 1, 1)[None] - 8


def test_flow_is_followed_from_frame_to_frame() -> None:
    """A face that grows by 1 % a frame has grown by 1.01^7 in all, which the sum of the flows is not."""
    from_centre = torch.stack(torch.meshgrid(*2 * [torch.arange(SIZE) - 63.5], indexing="xy"))
    moved = apex_flow((0.01 * from_centre)[None, :, None].expand(1, 2, PAIRS, SIZE, SIZE).clone())[0]
    inner = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(moved[inner], ((1.01**PAIRS - 1) * from_centre)[inner], rtol=1e-4, atol=1e-4)


def test_the_apex_is_where_the_face_has_moved_most() -> None:
    there_and_back = torch.tensor([1.0, 1, 1, -1, -1, -1, 0])
    flow = torch.stack([there_and_back, torch.zeros(PAIRS)])[None, :, :, None, None].expand(1, 2, PAIRS, 16, 16)
    onset_to_apex = apex_flow(torch.cat([flow, -flow.flip(1)]))
    torch.testing.assert_close(onset_to_apex[0, :, 8, 8], torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(onset_to_apex[1, :, 8, 8], torch.tensor([0.0, -3.0]))


def test_strain_is_blind_to_turns_and_sees_stretch() -> None:
    x, y = torch.meshgrid(*2 * [torch.arange(56.0)], indexing="xy")
    turn, stretch = 0.02 * torch.stack([-y, x]), 0.02 * torch.stack([x, torch.zeros_like(x)])
    pictures = flow_and_strain(torch.stack([turn, stretch]))
    assert pictures.shape == (2, 3, 28, 28)
    torch.testing.assert_close(pictures[0, 2], torch.zeros(28, 28), rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures[1, 2], torch.full((28, 28), 0.02))
    torch.testing.assert_close(pictures[1, 0, :, 3], torch.full((28,), 0.02 * 6.5))


def test_the_networks_have_the_published_sizes() -> None:
    assert STSTNet(3).classifier.in_features == 400
    published = 33_371_472  # of torchvision's r3d_18: three colours and 400 classes
    ours = sum(parameter.numel() for parameter in ResNet3D(5).parameters())
    assert ours == published - 64 * 2 * 3 * 7 * 7 - (512 + 1) * (400 - 5)
    assert ResNet3D(5).eval()(torch.zeros(2, 1, 8, 32, 32)).logits.shape == (2, 5)


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (2, 1), (2, 2), (3, 1), (5, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_short_clips(frames: int, stride: int, dtype: torch.dtype) -> None:
    """oneDNN gives wrong ones where a kernel of bfloat16 is longer than the clip; freed memory of NaN shows it."""
    torch.manual_seed(0)
    layer = _Conv3d(32, 32, 3, stride, 1, bias=False)
    clips = torch.randn(2, 32, frames, 9, 9)
    grads = []
    for kind in (torch.float64, dtype):
        torch.full((32, 32, 27), torch.nan)
        weight = layer.weight.detach().to(kind).requires_grad_()
        functional_call(layer, {"weight": weight}, (clips.to(kind),)).square().sum().backward()
        assert weight.grad is not None
        grads.append(weight.grad.double())
    assert layer(clips).shape == torch.nn.Conv3d(32, 32, 3, stride, 1)(clips).shape
    torch.testing.assert_close(layer(clips), torch.nn.functional.conv3d(clips, layer.weight, None, stride, 1))
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=float(grads[0].abs().max()) * 0.02)


def test_bfloat16_is_scaled_too() -> None:
    clips = torch.rand(1, 1, 8, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        halves, floats = (ResNet3D(3).eval()(clips.to(dtype)).logits for dtype in (torch.bfloat16, torch.float32))
    assert halves.dtype == floats.dtype == torch.bfloat16


def test_the_layout_in_memory_changes_no_bit_of_weights_that_are_read_again() -> None:
    torch.manual_seed(0)
    trained, again = ResNet3D(3), ResNet3D(3)
    shapes = []
    trained.blocks[0].register_forward_hook(lambda block, inputs, x: shapes.append(x.stride()))
    clip = torch.randn(2, 1, 8, 32, 32)
    trained(clip)  # running statistics other than those of a new model
    saved = {name: value.contiguous() for name, value in trained.state_dict().items()}
    again.load_state_dict(saved, assign=True)
    assert torch.equal(again.eval()(clip).logits, trained.eval()(clip).logits)
    assert [stride[1] for stride in shapes] == [1, 1], "channels last"


def test_histograms_see_the_region_and_the_direction(face: torch.Tensor) -> None:
    corner = face[0, 0, 48].round().long()
    flow = torch.zeros(1, 2, PAIRS, SIZE, SIZE)
    flow[:, 1, 0, corner[1] - 5 : corner[1] + 6, corner[0] - 5 : corner[0] + 6] = -1.0  # up, in a picture
    rows = region_features(flow, face)[0].reshape(len(REGIONS), -1)
    moving = rows[:, :8].sum(1)
    assert REGIONS[int(moving.argmax())] == "left mouth corner"
    assert rows[int(moving.argmax()), :8].argmax() == 6, "three quarters of a turn, clockwise from the right"
    x, y = rows[int(moving.argmax()), 8:].tolist()
    assert x == pytest.approx(0, abs=1e-6)
    assert y < 0


def test_histograms_do_not_see_the_head_move(face: torch.Tensor) -> None:
    shift = torch.tensor([0.4, -0.7])[None, :, None, None, None].expand(1, 2, PAIRS, SIZE, SIZE)
    torch.testing.assert_close(region_features(shift, face), torch.zeros(1, FEATURES), rtol=0, atol=1e-6)


@pytest.mark.parametrize("labels", [("disgust",), ("disgust", "surprise"), ("disgust", "happiness", "surprise")])
def test_fitted_to_whatever_classes_there_are(embedded_small: PreparedSet, labels: tuple[str, ...]) -> None:
    """A class without training clips is never predicted; training clips themselves are recognised."""
    names = ("disgust", "happiness", "surprise")
    protocol = Protocol("three", names, {name: name if name in labels else None for name in names} | dict.fromkeys(
        ("repression", "others")))  # fmt: skip
    clips = ClipDataset(embedded_small.videos, protocol)
    machine, majority = Histograms(3), Majority(3)
    machine.fit(clips, 0)
    majority.fit(clips, 0)
    items = [clips[place] for place in range(len(clips))]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    logits = machine(batch["flow"], batch["landmarks"]).logits
    assert logits.isfinite().all()
    assert logits.argmax(1).tolist() == batch["label"].tolist()
    shares = majority(batch["frames"]).logits.softmax(1)[0].numpy()
    np.testing.assert_allclose(shares, [(name in labels) / len(labels) for name in names], atol=1e-5)
