"""The whole model to time: preset "paper" on random clips, without dropout, which has no exact result.

Exact results come from the batched path in float64, which is checked against the reference; in training with statistics
per frame, like the reference. The budget is the error of the reference in the same dtype: the larger of its errors on
one clip and on the timed number of clips (at most `MOST_LOOPS`), because cancellation in a few logits affects it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import torch
from backends import Implementation, autocast, of_loops, of_module, on_backend
from gate import Errors, Results, errors_of
from harness.compare import Params, assert_runs_equal, neighbour_gap, randomise, seeded
from torch import Tensor

from mol_fast import MOL, PRESETS, JointLoss
from mol_fast import reference as ref
from mol_fast.nn.flow_head import DIFFERENCE_SCALE

CLASSES, CLEAR = 3, 1e-6
MOST_LOOPS = 4
"""Most clips for which the loops of the reference end in reasonable time."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips, with labels, true flow and true landmarks for the loss."""

    frames: Tensor
    labels: Tensor
    flow: Tensor
    landmarks: Tensor

    def to(self, dtype: torch.dtype) -> "Batch":
        return Batch(self.frames.to(dtype), self.labels, self.flow.to(dtype), self.landmarks.to(dtype))


def build(norm_stats: str, training: bool, device: torch.device) -> MOL:
    """Build a model with parameters far from the initial ones (identity blocks, zero flow), and with running
    statistics."""
    torch.manual_seed(0)
    module = MOL(CLASSES, config=replace(PRESETS["paper"], dropout=0.0, norm_stats=norm_stats))
    for block in (module.f5c_first, module.f5c_second):
        randomise(block)
    torch.nn.init.normal_(module.flow_head.predict0.weight, std=0.1)
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()(seeded(1, 1, module.config.frames, 128, 128, seed=1000))
    for norm in norms:
        norm.momentum = 0.1
    return module.to(device).train(training)


def random_batch(module: MOL, count: int, device: torch.device) -> Batch:
    """Draw clips whose neighbours rounding in float32 cannot change."""
    frames = module.config.frames
    double = copy.deepcopy(module).double()
    for seed in range(100):
        x = seeded(count, 1, frames, 128, 128, seed=seed).to(device)
        if smallest_gap(double, x.double()) > CLEAR:
            labels = torch.arange(count, device=device) % CLASSES
            flow = seeded(count, 2, frames - 1, 128, 128, seed=200).to(device)
            return Batch(x, labels, flow, 64 + 20 * seeded(count, frames, 68, 2, seed=201).to(device))
    raise AssertionError("no clips with clear neighbours")


@torch.no_grad()
def smallest_gap(module: MOL, x: Tensor) -> float:
    """Return the smallest difference of similarity that decides a neighbour, with either kind of statistics."""
    b, frames = x.shape[0], x.shape[2]
    stem = module.stem(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, frames))
    sides = ((module.f5c_first.fcc, stem[:, :-1].flatten(0, 1)), (module.f5c_second.fcc, stem[:, 1:].flatten(0, 1)))
    k = module.config.neighbors
    return min(neighbour_gap(fcc(maps, groups), k, "paper") for fcc, maps in sides for groups in (1, frames - 1))


@dataclass(frozen=True, eq=False)
class Problem:
    """The model, a batch, and exact results."""

    module: MOL
    batch: Batch
    exact: Results


@lru_cache(maxsize=2)
def problem(count: int, training: bool, norm_stats: str, device: torch.device) -> Problem:
    """Return the problem of `count` clips. `norm_stats` is "clip" (the preset's) or "frame" (the reference's)."""
    module = build(norm_stats, training, device)
    batch = random_batch(module, count, device)
    exact = timed(of_module(copy.deepcopy(module).double(), "torch"), batch, training, torch.float64)()
    return Problem(module, batch, exact)


def plain_errors(count: int, training: bool, dtype: torch.dtype, device: torch.device) -> Errors:
    """Return the larger error of the reference in `dtype`, on one clip or on `count` clips (at most `MOST_LOOPS`)."""
    found = [_plain_errors(clips, training, dtype, device) for clips in (1, min(count, MOST_LOOPS))]
    return Errors(*(max(errors) for errors in zip(*found, strict=True)))


@cache
def _plain_errors(count: int, training: bool, dtype: torch.dtype, device: torch.device) -> Errors:
    case = problem(count, training, "frame", device)
    return errors_of(timed(loops(case.module), case.batch, training, dtype)(), _double(count, training, device))


@lru_cache(maxsize=4)
def _double(count: int, training: bool, device: torch.device) -> Results:
    """Return the results of the reference on `count` clips in float64, and compare the exact results with them."""
    case = problem(count, training, "frame", device)
    double = timed(loops(case.module, torch.float64), case.batch, training, torch.float64)()
    for ours, true in zip(case.exact, double, strict=True):
        if true:
            assert_runs_equal(ours, true, 1e-9)
    return double


def loops(module: MOL, dtype: torch.dtype | None = None) -> Implementation:
    """Return the reference as an implementation, with the parameters of `module`."""
    config = module.config

    def forward(params: Params, x: Tensor) -> ref.Output:
        return ref.mol(
            params, x, config.neighbors, "paper", module.training, 0.0, config.feature_scale, DIFFERENCE_SCALE
        )

    return of_loops(forward, module, dtype)


def for_inference(module: MOL, backend: str, dtype: torch.dtype) -> Implementation:
    """Return a copy of `module` optimised for inference, on a backend in PyTorch or Triton."""
    compile = backend == "torch.compile"
    return Implementation(on_backend(module, backend).optimize_for_inference(dtype, compile), {}, {})


def timed(ours: Implementation, batch: Batch, training: bool, dtype: torch.dtype) -> Callable[[], Results]:
    """Return the function to time: forward, or forward, loss and gradients; bfloat16 by autocast."""
    batch = batch.to(dtype if dtype == torch.float64 else torch.float32)
    context = autocast(batch.frames.device, dtype)
    criterion = JointLoss()

    def forward() -> Results:
        with torch.no_grad(), context:
            output = ours.forward(batch.frames)
        return Results({"logits": output.logits, "flow": output.flow, "landmarks": output.landmarks}, {})

    def step() -> Results:
        with context:
            output = ours.forward(batch.frames)
        loss = criterion(output, batch.labels, batch.flow, batch.landmarks).total
        gradients = torch.autograd.grad(loss, list(ours.parameters.values()))
        return Results({"loss": loss.detach()}, dict(zip(ours.parameters, gradients, strict=True)) | ours.buffers)

    return step if training else forward
