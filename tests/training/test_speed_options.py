"""What makes the model faster or smaller changes nothing that it computes."""

import pytest
import torch
from harness.compare import randomise, seeded
from torch import Tensor
from torch.testing import assert_close

from mol_fast import MOL, JointLoss, MOLOutput
from mol_fast.data import ClipDataset, PreparedSet, get_protocol
from mol_fast.nn.flow_layers import Conv, Deconv, Predict
from mol_fast.training.settings import TrainSettings
from mol_fast.training.step import StepRecord

FRAMES = 5


def model(**options: object) -> MOL:
    """A small model, all of whose parts do something, with running statistics of a few steps."""
    torch.manual_seed(0)
    module = MOL(3, **{"flow_width": 0.05, "frames": FRAMES, "dropout": 0.0, **options})  # type: ignore[arg-type]
    for block in (module.f5c_first, module.f5c_second):
        randomise(block)
    if module.flow_head is not None:
        torch.nn.init.normal_(module.flow_head.predict0.weight, std=0.1)
    with torch.no_grad():
        for seed in range(3):
            module.train()(clips(seed))
    return module


def clips(seed: int = 0) -> Tensor:
    return seeded(2, 1, FRAMES, 128, 128, seed=seed)


def losses_of(module: MOL, steps: int = 2) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of a few steps of training, then parameters and buffers."""
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    flow, landmarks = seeded(2, 2, FRAMES - 1, 128, 128, seed=5), seeded(2, FRAMES, 68, 2, seed=6)
    losses = []
    for step in range(steps):
        loss = JointLoss()(module.train()(clips(step)), torch.tensor([0, 2]), flow, landmarks).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, module.state_dict()


def assert_close_outputs(actual: MOLOutput, expected: MOLOutput, tolerance: float) -> None:
    """Differences relative to the largest value of each output."""
    for name, value in expected._asdict().items():
        scale = float(value.abs().max())
        assert_close(getattr(actual, name).double(), value.double(), rtol=0, atol=tolerance * scale, msg=name)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_model_for_inference_gives_the_same(variant: str) -> None:
    module = model(variant=variant).double()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimized = module.optimize_for_inference(torch.float64)
    with torch.inference_mode():
        assert_close_outputs(optimized(clips().double()), module.eval()(clips().double()), 1e-12)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in optimized.flow_head.modules())
    assert not any(parameter.requires_grad for parameter in optimized.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_model_for_inference_in_bfloat16_is_as_good_as_autocast() -> None:
    module = model().eval()
    optimized = module.optimize_for_inference(torch.bfloat16)
    with torch.inference_mode():
        exact = module.double()(clips().double())
        module.float()
        ours = optimized(clips())
        with torch.autocast("cpu", torch.bfloat16):
            plain = module(clips())
    assert optimized.flow_head.conv1.conv.weight.dtype == torch.bfloat16
    assert ours.landmarks.dtype == torch.float32
    for name, value in exact._asdict().items():
        error, allowed = ((getattr(output, name).double() - value).norm() for output in (ours, plain))
        assert float(error) <= 2 * float(allowed), name


def test_the_model_for_inference_without_some_tasks() -> None:
    module = model(tasks=("mer",))
    with torch.inference_mode():
        output = module.optimize_for_inference()(clips())
        assert_close(output.logits, module.eval()(clips()).logits)
    assert output.flow is None
    assert output.landmarks is None


def test_the_model_for_inference_needs_a_floating_dtype() -> None:
    with pytest.raises(ValueError, match=r"dtype must be floating point, got torch\.int8"):
        model().optimize_for_inference(torch.int8)


@pytest.mark.parametrize("norm_stats", ["clip", "frame"])
def test_recomputed_activations_change_no_bit(norm_stats: str) -> None:
    """Losses, weights and running statistics: these count each batch once, though it is computed twice."""
    kept, recomputed = model(norm_stats=norm_stats), model(norm_stats=norm_stats)
    recomputed.flow_head.recompute = True
    calls = []
    recomputed.flow_head.conv1.register_forward_pre_hook(lambda *_: calls.append(0))
    (losses, state), (same_losses, same_state) = losses_of(kept), losses_of(recomputed)
    assert len(calls) == 4
    assert losses == same_losses
    for name, value in state.items():
        assert torch.equal(value, same_state[name]), name


def test_positions_of_landmarks_keep_their_digits_under_autocast() -> None:
    """A position of about 100 pixels is a multiple of half a pixel in bfloat16."""
    module = model().eval()
    module.landmark_head.start_at(torch.full((68, 2), 100.3))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        landmarks = module(clips()).landmarks
    assert landmarks.dtype == torch.float32
    assert float((landmarks * 2 - (landmarks * 2).round()).abs().max()) > 0.1


def test_differences_of_frames_are_taken_before_they_are_rounded() -> None:
    """Two frames that bfloat16 would make equal: their difference still reaches the flow head."""
    fast = model().optimize_for_inference(torch.bfloat16)
    clip = torch.ones(1, 1, FRAMES, 128, 128) + 1e-3 * torch.arange(FRAMES)[:, None, None]
    seen: list[Tensor] = []
    fast.flow_head.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        fast(clip)
    assert seen[0].dtype == torch.bfloat16
    assert_close(seen[0][:, 1].float(), torch.full((FRAMES, 128, 128), 8e-3), rtol=0.01, atol=0)


def test_the_flow_head_stays_in_channels_last() -> None:
    """Copies between memory formats cost more than the arithmetic of a layer; but not those of flow, two channels."""
    module = model().eval()
    layers = [layer for layer in module.flow_head.modules() if isinstance(layer, Conv | Deconv | Predict)]
    layers = [layer for layer in layers if not isinstance(layer, Deconv) or layer.in_channels > 2]
    seen: list[bool] = []
    for layer in layers:
        layer.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    with torch.inference_mode():
        module(clips())
    assert len(seen) == len(layers)
    assert all(seen)
    assert module.flow_head.conv2.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_features_come_in_channels_last_to_both_heads() -> None:
    module = model().eval()
    seen: list[bool] = []
    module.flow_head.register_forward_pre_hook(
        lambda _, inputs: seen.extend(x.is_contiguous(memory_format=torch.channels_last) for x in inputs[1:])
    )
    module.expression_head.conv.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))
    )
    with torch.inference_mode():
        module(clips())
    assert seen == [True] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_training_step_never_waits_for_the_gpu(embedded_small: PreparedSet) -> None:
    """From the second step on; the first one loads kernels and asks for their properties."""
    pytest.importorskip("lightning_fabric")
    from mol_fast.training.fabric import make_fabric
    from mol_fast.training.fold import make_model
    from mol_fast.training.loop import train

    settings = TrainSettings(steps=6, batch_size=4, device="cuda", checkpoint_every=0)
    protocol = get_protocol("embedded-3")
    clips = ClipDataset(protocol.select(embedded_small.videos), protocol, "random", True, 0)
    seen = []

    def on_step(record: StepRecord) -> None:
        seen.append(record.step)
        torch.cuda.set_sync_debug_mode("error")

    try:
        train(
            make_model(settings, protocol), clips, settings, make_fabric(settings.device, settings.precision), on_step
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seen == list(range(1, 7))
