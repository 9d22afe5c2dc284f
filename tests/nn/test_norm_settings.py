"""Norms in every setting of `torch.nn.BatchNorm2d`, in FCC and in the heads: what PyTorch's own layer gives."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness.compare import randomise, seeded
from torch import nn
from torch.testing import assert_close

from mol_fast import F5C, FCC
from mol_fast.nn.f5c import _Branch
from mol_fast.nn.flow_layers import Conv
from mol_fast.nn.norm import FrameBatchNorm2d, kept_statistics

CHANNELS, SIZE = 6, (3, 4)
SETTINGS: dict[str, dict[str, Any]] = {
    "as made": {},
    "cumulative average": {"momentum": None},
    "no running statistics": {"track_running_stats": False},
    "no weight and bias": {"affine": False},
    "all three": {"momentum": None, "track_running_stats": False, "affine": False},
    "another momentum and eps": {"momentum": 0.3, "eps": 0.1},
}
Change = Callable[[FCC], None]


def put(layer: FCC, half: str, kind: type[nn.BatchNorm2d], **settings: Any) -> None:
    """Put a norm of this kind into a half, with the tensors of the one it has."""
    old: FrameBatchNorm2d = getattr(layer, half).norm
    new = kind(CHANNELS // 2, **settings).double().train(old.training)
    given = {name: value for name, value in old.state_dict().items() if name in new.state_dict()}
    new.load_state_dict(given, strict=False)
    getattr(layer, half).norm = new


def freeze(layer: FCC, *halves: str) -> None:
    for half in halves:
        getattr(layer, half).norm.eval()


def melt(layer: FCC) -> None:
    layer.vh.norm.train()
    layer.hv.norm.train()


def remove(layer: FCC, *buffers: str) -> None:
    """Take buffers away from one half, as tools for adaptation do at test time."""
    for name in buffers:
        setattr(layer.vh.norm, name, None)


def put_all(settings: dict[str, Any], *halves: str) -> Change:
    def change(layer: FCC) -> None:
        for half in halves:
            put(layer, half, FrameBatchNorm2d, **settings)

    return change


CHANGES: dict[str, Change] = {
    "frozen vh": lambda layer: freeze(layer, "vh"),
    "frozen hv": lambda layer: freeze(layer, "hv"),
    "both frozen": lambda layer: freeze(layer, "vh", "hv"),
    "eps of hv": lambda layer: setattr(layer.hv.norm, "eps", 0.5),
    "momentum of vh": lambda layer: setattr(layer.vh.norm, "momentum", None),
    "no tracking any more": lambda layer: setattr(layer.vh.norm, "track_running_stats", False),
    "training norms in evaluation": lambda layer: melt(layer.eval()),
    "statistics of vh removed": lambda layer: remove(layer, "running_mean", "running_var", "num_batches_tracked"),
    "counter of vh removed": lambda layer: remove(layer, "num_batches_tracked"),
    "counter of vh removed, cumulative": lambda layer: (
        remove(layer, "num_batches_tracked"),
        setattr(layer.vh.norm, "momentum", None),
    )[0],
    **{f"{name}, vh": put_all(settings, "vh") for name, settings in SETTINGS.items()},
    **{f"{name}, both": put_all(settings, "vh", "hv") for name, settings in SETTINGS.items()},
}


def plain(layer: FCC) -> FCC:
    """The layer with PyTorch's own norms of the same settings, which it calls."""
    twin = copy.deepcopy(layer)
    for half in ("vh", "hv"):
        norm: FrameBatchNorm2d = getattr(twin, half).norm
        put(
            twin,
            half,
            nn.BatchNorm2d,
            eps=norm.eps,
            momentum=norm.momentum,
            affine=norm.affine,
            track_running_stats=norm.running_mean is not None,
        )
        getattr(twin, half).norm.track_running_stats = norm.track_running_stats
        if norm.num_batches_tracked is None:
            getattr(twin, half).norm.num_batches_tracked = None
    return twin


@pytest.mark.parametrize("name", CHANGES)
def test_defect_15_norms_of_fcc_are_those_of_pytorch(name: str) -> None:
    """Output, every gradient, and running statistics over three steps, then in evaluation."""
    layer = FCC(CHANNELS, SIZE).double()
    randomise(layer)
    CHANGES[name](layer)
    twin = plain(layer)
    before = {key: value.clone() for key, value in layer.named_buffers()}
    for step in range(3):
        x = seeded(4, CHANNELS, *SIZE, seed=step, dtype=torch.float64)
        g = seeded(*x.shape, seed=99, dtype=torch.float64)
        results = []
        for each in (layer, twin):
            each.zero_grad()
            leaf = x.clone().requires_grad_()
            y = each(leaf)
            y.backward(g)
            gradients = {key: value.grad for key, value in each.named_parameters()}
            results.append((y, leaf.grad, gradients, dict(each.named_buffers())))
        assert_close(*results, rtol=1e-10, atol=1e-11)
    moved = {key for key, value in layer.named_buffers() if not torch.equal(value, before[key])}
    frozen = {half for half in ("vh", "hv") if not getattr(layer, half).norm.tracks()}
    assert not any(key.startswith(tuple(frozen)) for key in moved if frozen)
    assert_close(layer.eval()(x), twin.eval()(x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_defect_15_frames_of_fcc_are_successive_calls(settings: dict[str, Any]) -> None:
    layer = FCC(CHANNELS, SIZE).double()
    randomise(layer)
    for half in ("vh", "hv"):
        put(layer, half, FrameBatchNorm2d, **settings)
    twin = plain(layer)
    x = seeded(4, 3, CHANNELS, *SIZE, dtype=torch.float64)
    expected = torch.stack([twin(x[:, frame]) for frame in range(3)], dim=1)
    assert_close(layer(x.flatten(0, 1), groups=3), expected.flatten(0, 1), rtol=1e-10, atol=1e-11)
    assert_close(dict(layer.named_buffers()), dict(twin.named_buffers()), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("calls", [(0,), (0, 1), (0, 1, 1, 0)])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_defect_15_norms_of_the_heads_are_those_of_pytorch(settings: dict[str, Any], calls: tuple[int, ...]) -> None:
    """Frame by frame: output, gradients, running statistics, evaluation, and a frozen norm."""
    groups = max(calls) + 1
    ours, twin = (kind(3, **settings).double() for kind in (FrameBatchNorm2d, nn.BatchNorm2d))
    randomise(ours)
    twin.load_state_dict(ours.state_dict())
    for step in range(2):
        x = seeded(4, groups, 3, 2, 5, seed=step, dtype=torch.float64)
        first, second = (x.clone().requires_grad_() for _ in range(2))
        y = ours(first.flatten(0, 1), calls)
        outputs = {frame: twin(second[:, frame]) for frame in calls}
        expected = torch.stack([outputs[frame] for frame in range(groups)], dim=1).flatten(0, 1)
        g = seeded(*y.shape, seed=9, dtype=torch.float64)
        assert_close(y, expected, rtol=1e-10, atol=1e-12)
        assert_close(torch.autograd.grad(y, first, g), torch.autograd.grad(expected, second, g), rtol=1e-9, atol=1e-12)
        assert_close(dict(ours.named_buffers()), dict(twin.named_buffers()), rtol=1e-10, atol=1e-12)
    before = copy.deepcopy(dict(ours.named_buffers()))
    if before or groups == 1:  # without running statistics, frames stay apart in evaluation
        assert_close(ours.eval()(x.flatten(0, 1), calls), twin.eval()(x.flatten(0, 1)), rtol=1e-10, atol=1e-12)
    assert_close(dict(ours.named_buffers()), before, rtol=0, atol=0)


def test_defect_15_a_frozen_norm_of_a_training_block_stays() -> None:
    """Among norms that move: `block.fcc.vh.norm.eval()`, and one of a head."""
    block, head = F5C(CHANNELS, SIZE, 3), Conv(CHANNELS, 4, 3)
    block.fcc.vh.norm.eval()
    head.norm.eval()
    frozen = copy.deepcopy({**block.fcc.vh.norm.state_dict(prefix="vh."), **head.norm.state_dict(prefix="head.")})
    y = head(block(seeded(4, CHANNELS, *SIZE), groups=2), (0, 1))
    assert y.shape == (4, 4, *SIZE)
    now = {**block.fcc.vh.norm.state_dict(prefix="vh."), **head.norm.state_dict(prefix="head.")}
    assert_close(now, frozen, rtol=0, atol=0)
    assert int(block.fcc.hv.norm.num_batches_tracked) == 2


@pytest.mark.parametrize("kind", [nn.GroupNorm, nn.BatchNorm2d, nn.Identity])
def test_defect_15_another_kind_of_norm_works_without_frames(kind: type[nn.Module]) -> None:
    """In evaluation and with one group; with several, in training, it is refused in a sentence."""
    block, head = F5C(CHANNELS, SIZE, 3), Conv(CHANNELS, 4, 3)
    arguments = {nn.GroupNorm: (1,), nn.BatchNorm2d: (), nn.Identity: ()}[kind]
    block.fcc.vh.norm, head.norm = kind(*arguments, 3), kind(*arguments, 4)  # type: ignore[assignment]
    x = seeded(4, CHANNELS, *SIZE)
    for part in (lambda groups: block(x, groups), lambda groups: head(x, range(groups))):
        assert part(1).isfinite().all()
        with pytest.raises(ValueError, match=f"replaced by {kind.__name__}, which cannot train on 2 frames") as caught:
            part(2)
        assert "\n" not in str(caught.value)
        for layer in (block, head):
            layer.eval()
        assert part(2).isfinite().all()
        for layer in (block, head):
            layer.train()
    head.eval().fold()
    assert type(head.norm) is kind  # what cannot be folded is called


def test_defect_15_converted_norms_without_processes_are_the_same() -> None:
    """`convert_sync_batchnorm` keeps names, tensors and frames. Over processes: tests/training/test_parallel.py."""
    model = nn.ModuleList([F5C(CHANNELS, SIZE, 3), Conv(CHANNELS, 4, 3)])
    for layer in model:
        randomise(layer)
    model[1].norm.eval()
    twin = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    norms = [layer for layer in converted.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [type(norm) for norm in norms] == [FrameBatchNorm2d] * 3
    assert all(norm.synchronised for norm in norms)
    assert [norm.training for norm in norms] == [True, True, False]
    assert all(value is parameters[name] for name, value in converted.named_parameters())
    x = seeded(4, CHANNELS, *SIZE)
    ys = [each[1](each[0](x, groups=2), (0, 1)) for each in (converted, twin)]
    assert_close(*ys)
    assert_close(converted.state_dict(), twin.state_dict())


def test_defect_15_a_norm_that_is_converted_alone_and_put_back_knows_frames() -> None:
    """It kept PyTorch's class, which cannot train with frames."""
    layer = FCC(CHANNELS, SIZE)
    randomise(layer)
    twin = copy.deepcopy(layer)
    for branch in (layer.vh, layer.hv):
        given = branch.norm
        branch.norm = nn.SyncBatchNorm.convert_sync_batchnorm(given)
        assert type(branch.norm) is FrameBatchNorm2d
        assert branch.norm.synchronised
        assert branch.norm.weight is given.weight
    x = seeded(4, CHANNELS, *SIZE)
    assert_close(layer(x, groups=2), twin(x, groups=2))
    assert_close(layer.state_dict(), twin.state_dict())


@pytest.mark.parametrize("place", [_Branch.add_module, setattr])
def test_defect_15_a_process_group_of_its_own_is_refused(place: Callable[[nn.Module, str, object], None]) -> None:
    given = nn.SyncBatchNorm(3)
    given.process_group = object()
    branch = FCC(CHANNELS, SIZE).vh
    with pytest.raises(ValueError, match="shared by all processes: convert to SyncBatchNorm without a process_group"):
        place(branch, "norm", given)
    assert type(branch.norm) is FrameBatchNorm2d


def test_defect_15_recomputed_norms_are_updated_once_whatever_their_kind() -> None:
    layers = nn.Sequential(FrameBatchNorm2d(3, momentum=None), nn.BatchNorm2d(3)).double()
    x = seeded(4, 3, *SIZE, dtype=torch.float64)
    before = copy.deepcopy(layers.state_dict())
    with kept_statistics(layers):
        layers(x)
    assert_close(layers.state_dict(), before, rtol=0, atol=0)
