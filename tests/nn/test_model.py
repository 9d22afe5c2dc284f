"""The whole model, a batch of frames, held to the reference, one pair of frames after the other."""

import copy
import json
from collections.abc import Callable

import pytest
import torch
from harness.compare import randomise, run, seeded, state
from torch import Tensor
from torch.testing import assert_close

from mol_fast import MOL, PRESETS, JointLoss, MOLConfig, MOLOutput
from mol_fast import reference as ref
from mol_fast.nn.flow_head import DIFFERENCE_SCALE
from mol_fast.nn.norm import FrameBatchNorm2d

FRAMES = 5
NARROW: dict[str, float | int] = {"flow_width": 0.05, "frames": FRAMES, "dropout": 0.0}


def model(**options: object) -> MOL:
    """A small float64 model with the residual blocks and the last predictor far from their start."""
    torch.manual_seed(0)
    module = MOL(3, **{**NARROW, **options})  # type: ignore[arg-type]
    for block in (module.f5c_first, module.f5c_second):
        randomise(block)
    torch.nn.init.normal_(module.flow_head.predict0.weight, std=0.1)
    return module.double()


def clips(b: int = 2) -> Tensor:
    return seeded(b, 1, FRAMES, 128, 128, dtype=torch.float64)


def flat(output: MOLOutput | ref.Output) -> Tensor:
    """All that the model estimates, `(B, everything)`."""
    return torch.cat([output.logits, output.flow.flatten(1), output.landmarks.flatten(1)], dim=1)


def run_model(forward: Callable[[dict[str, Tensor], Tensor], MOLOutput | ref.Output], module: MOL) -> dict[str, Tensor]:
    x = clips()
    size = 3 + (2 * 128 * 128 + 2 * 68) * (FRAMES - 1)
    return run(lambda params, x: flat(forward(params, x)), state(module), x, seeded(len(x), size, dtype=x.dtype))


@pytest.mark.parametrize(("variant", "center"), [("paper", True), ("official", False)])
def test_training_per_frame_is_the_reference(variant: str, center: bool) -> None:
    """Outputs, every gradient, and every running statistic."""
    module = model(variant=variant, center=center, difference=center, norm_stats="frame", feature_scale=2.0).train()
    scales = (2.0, DIFFERENCE_SCALE) if center else (None, None)
    exact = run_model(lambda p, x: ref.mol(p, x, 4, variant, True, 0.0, *scales), module)
    actual = run_model(lambda p, x: torch.func.functional_call(module, p, (x,)), module)
    assert actual.keys() == exact.keys()
    for name, value in exact.items():
        size = float(value.double().norm())
        assert float((actual[name] - value).double().norm()) <= 1e-9 * max(size, 1e-3), name


@pytest.mark.parametrize(("variant", "center"), [("paper", False), ("official", True)])
def test_evaluation_is_the_reference(variant: str, center: bool) -> None:
    module = model(variant=variant, center=center, difference=not center).eval()
    with torch.no_grad():
        exact = ref.mol(
            state(module), clips(), 4, variant, False, 0.0, *((4.0, None) if center else (None, DIFFERENCE_SCALE))
        )
        assert_close(flat(module(clips())), flat(exact), atol=1e-10, rtol=1e-9)


def test_statistics_per_clip_are_pooled() -> None:
    """norm_stats="clip" normalises every frame by the statistics over all frames.

    With momentum 1 the running statistics after a training step are those of the batch, the variance unbiased. Made
    biased again, they are what the reference must use as constants to give the same outputs.
    """
    module = model(norm_stats="clip").train()
    counts: dict[str, int] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, FrameBatchNorm2d):
            layer.momentum = 1.0
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: counts.update({name: inputs[0].numel() // inputs[0].shape[1]})
            )
    with torch.no_grad():
        output = module(clips())
    params = state(module)
    blocks = [f"{block}.fcc.{branch}.norm" for block in ("f5c_first", "f5c_second") for branch in ("vh", "hv")]
    counts |= dict.fromkeys(blocks, 2 * (FRAMES - 1) * 16 * 16)
    assert counts["flow_head.conv1.norm"] == 2 * FRAMES * 64 * 64
    for name, count in counts.items():
        assert int(params[f"{name}.num_batches_tracked"]) == 1
        params[f"{name}.running_var"] *= (count - 1) / count
    with torch.no_grad():
        exact = ref.mol(params, clips(), 4, "paper", False, 0.0, 4.0, DIFFERENCE_SCALE)
    assert_close(flat(output), flat(exact), atol=1e-9, rtol=1e-8)


def test_evaluation_does_not_depend_on_the_statistics_of_training() -> None:
    by_clip, by_frame = model(norm_stats="clip").eval(), model(norm_stats="frame").eval()
    by_frame.load_state_dict(by_clip.state_dict())
    with torch.no_grad():
        assert torch.equal(flat(by_clip(clips(1))), flat(by_frame(clips(1))))


def test_clips_of_a_batch_are_independent() -> None:
    module = model().eval()
    with torch.no_grad():
        together = flat(module(clips(2)))
        apart = torch.cat([flat(module(clip[None])) for clip in clips(2)])
        assert_close(together, apart, atol=1e-10, rtol=1e-9)
        empty = module(clips(0))
    assert [tuple(x.shape) for x in empty] == [(0, 3), (0, 2, FRAMES - 1, 128, 128), (0, FRAMES - 1, 68, 2)]


def test_every_parameter_learns() -> None:
    """Each has a gradient of the joint loss, as distributed training needs; bfloat16 autocast stays finite."""
    module = MOL(3, **NARROW).train()  # type: ignore[arg-type]
    for block in (module.f5c_first, module.f5c_second):
        randomise(block)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(clips().float())
    flow, landmarks = seeded(2, 2, FRAMES - 1, 128, 128), 64 + 20 * seeded(2, FRAMES, 68, 2)
    JointLoss()(output, torch.tensor([0, 2]), flow, landmarks).total.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for name, buffer in module.named_buffers():
        assert torch.isfinite(buffer).all(), name


def test_training_starts_at_zero_flow() -> None:
    with torch.no_grad():
        assert not MOL(3, **NARROW)(clips(1).float()).flow.any()  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_stats", ["clip", "frame"])
def test_forward_is_one_graph(norm_stats: str) -> None:
    module = MOL(3, **{**NARROW, "norm_stats": norm_stats}).train()  # type: ignore[arg-type]
    torch._dynamo.reset()
    expected = copy.deepcopy(module)(clips().float())
    actual = torch.compile(module, fullgraph=True, backend="eager")(clips().float())
    assert_close(flat(actual), flat(expected))


def test_stills_are_frames_of_no_clip() -> None:
    """In evaluation a still gets the landmarks of the same frame in a clip; in training it changes the statistics."""
    module, clip = model(norm_stats="clip"), clips()
    stills = clip[:, 0, 2:4].flatten(0, 1)[:, None]
    with torch.no_grad():
        plain = module.eval()(clip)
        output, points = module(clip, stills)
        assert_close(flat(output), flat(plain))
        assert_close(points, plain.landmarks[:, 1:3].flatten(0, 1))
        module.train()
        assert not torch.allclose(module(clip, 2 * stills)[0].landmarks, module(clip).landmarks)


@pytest.mark.parametrize(
    ("options", "shape", "said"),
    [
        ({}, (2, 128, 128), "stills must have shape"),
        ({}, (0, 1, 128, 128), "N > 0, and the dtype"),
        ({"norm_stats": "frame"}, (2, 1, 128, 128), "stills need the task"),
    ],
)
def test_wrong_stills(options: dict[str, str], shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model(**options)(clips(), torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    """Every preset builds and gives what its configuration says; the meta device computes shapes only."""
    with torch.device("meta"):
        module = MOL(5, config=PRESETS[name])
        output = module(torch.empty(2, 1, 8, 128, 128))
    assert module.config.num_classes == 5
    assert [tuple(x.shape) for x in output] == [(2, 5), (2, 2, 7, 128, 128), (2, 7, 68, 2)]


@pytest.mark.parametrize(
    "shape", [(1, FRAMES, 128, 128), (1, 1, 8, 128, 128), (1, 3, FRAMES, 128, 128), (1, 1, FRAMES, 64, 64)]
)
def test_wrong_clips_are_named(shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        module = MOL(3, **NARROW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"clip must have shape \(B, 1, 5, 128, 128\), got"):
        module(torch.empty(shape, device="meta"))
    with pytest.raises(ValueError, match=r"clip must be floating point, normalised, got torch\.uint8"):
        module(torch.empty(1, 1, FRAMES, 128, 128, device="meta", dtype=torch.uint8))


def test_configuration_travels_through_json() -> None:
    config = MOLConfig(
        num_classes=7, variant="official", center=False, difference=False, flow_width=0.5, norm_stats="frame"
    )
    assert MOLConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="unknown configuration fields: depth, width"):
        MOLConfig.from_dict({**config.to_dict(), "width": 1, "depth": 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes must be from 2 to 1000, got 1"),
        ({"variant": "mine"}, "variant must be one of paper, official"),
        ({"norm_stats": "batch"}, "norm_stats must be one of frame, clip"),
        ({"backend": "gpu"}, "backend must be one of"),
        ({"frames": 3}, "frames must be from 5"),
        ({"flow_width": 0.0}, "flow_width must be positive"),
        ({"feature_scale": float("nan")}, "feature_scale must be positive"),
        ({"dropout": 1.0}, "dropout must be from 0"),
    ],
)
def test_configuration_names_the_wrong_field(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MOLConfig(**options)  # type: ignore[arg-type]


def test_too_many_neighbours() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="neighbors must be from 1 to the number of nodes, 128"):
        MOL(3, neighbors=129)
