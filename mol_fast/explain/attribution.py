"""Attribute the score of a class to places and frames: Grad-CAM on both F5C blocks, integrated gradients on frames.

Sources: Selvaraju et al., Grad-CAM, ICCV 2017; Sundararajan, Taly and Yan, Axiomatic attribution for deep networks,
ICML 2017. Both are those of captum.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.explain.evidence import Evidence, evidence
from mol_fast.nn.config import FEATURE_SIZE
from mol_fast.nn.f5c import CCC
from mol_fast.nn.model import MOL
from mol_fast.utils.errors import UserError

METHODS = ("first block", "second block", "frames", "neighbours")
"""Grad-CAM on the blocks of the first and second frames of pairs, integrated gradients on frames, CCC's evidence."""
STEPS = 12
"""Steps of the integral."""


class Attribution(NamedTuple):
    """Attribution for B windows of 8 frames; h = w = 16 cells of 8 pixels.

    Attributes:
        first, second: (B, 7, h, w), Grad-CAM on the blocks; positive speaks for the class.
        frames: (B, 8, 128, 128), integrated gradients from the still first frame to the frames; their sum is the
            difference of the scores, but for jumps where CCC chooses other neighbours. None if not asked for.
        neighbours: evidence of both blocks; None for a block without CCC, or with one neighbour.
    """

    first: Tensor
    second: Tensor
    frames: Tensor | None
    neighbours: tuple[Evidence | None, Evidence | None]

    def places(self) -> dict[str, Tensor]:
        """Return a map (B, h, w) for each of `METHODS` that is there: how much each cell matters, at least 0.

        Grad-CAM is summed over pairs, and what speaks against the class is dropped. Integrated gradients count with
        their size, summed over frames and pixels.
        """
        maps = {"first block": self.first.sum(1).relu(), "second block": self.second.sum(1).relu()}
        if self.frames is not None:
            maps["frames"] = F.avg_pool2d(self.frames.abs().sum(1), self.frames.shape[-1] // FEATURE_SIZE)
        found = [item.places for item in self.neighbours if item is not None]
        if found:
            maps["neighbours"] = torch.stack(found).mean(0)
        return maps

    def pairs(self) -> Tensor:
        """Return the share (B, 7) of each pair of frames in what speaks for the class, mean of both blocks."""
        sums = torch.stack([cam.float().relu().sum((2, 3)) for cam in (self.first, self.second)])
        return (sums / sums.sum(2, keepdim=True).clamp_min(1e-12)).mean(0)

    def times(self) -> Tensor | None:
        """Return the share (B, 8) of each frame in the integrated gradients; None without them."""
        if self.frames is None:
            return None
        sizes = self.frames.abs().sum((2, 3))
        return sizes / sizes.sum(1, keepdim=True).clamp_min(1e-12)


def expression_model(model: MOL) -> MOL:
    """Return a copy of a model with the expression head alone, in evaluation mode: the other heads only take time."""
    lean = MOL(config=replace(model.config, tasks=("mer",)))
    for name in ("stem", "f5c_first", "f5c_second", "expression_head"):
        setattr(lean, name, copy.deepcopy(getattr(model, name)))
    return lean.eval().requires_grad_(False)


@torch.enable_grad()
def attribute(lean: MOL, clips: Tensor, labels: Tensor, frames: bool = True) -> Attribution:
    """Attribute the scores of classes.

    Args:
        lean: model of `expression_model`.
        clips: (B, 1, 8, 128, 128), normalised.
        labels: (B,), the class to explain in each window.
        frames: also compute integrated gradients, which take most of the time.

    Raises:
        UserError: captum is not installed.
    """
    captum = import_captum()

    def scores(inputs: Tensor) -> Tensor:
        return lean(inputs).logits

    inputs = clips.detach().requires_grad_()
    blocks = lean.f5c_first, lean.f5c_second
    layers = [layer if isinstance(layer := getattr(block, "ccc", None), CCC) else None for block in blocks]
    with _inputs_of(layers) as maps:
        cams = [
            captum.LayerGradCam(scores, block)
            .attribute(inputs, labels)
            .detach()
            .unflatten(0, (len(clips), -1))[:, :, 0]
            for block in blocks
        ]
    first, second = (
        None if layer is None else evidence(layer, kept, lean.config.frames - 1)
        for layer, kept in zip(layers, maps, strict=True)
    )
    integrated = None
    if frames:
        still = clips[:, :, :1].expand_as(clips)
        size = len(clips) * STEPS
        integrated = captum.IntegratedGradients(scores).attribute(
            inputs, still, labels, n_steps=STEPS, internal_batch_size=min(size, max(8, len(clips)))
        )
        integrated = integrated.detach().float()[:, 0]
    return Attribution(cams[0], cams[1], integrated, (first, second))


def import_captum() -> Any:
    """Import captum's methods.

    Raises:
        UserError: captum, or scipy for action units, is not installed.
    """
    try:
        import scipy.optimize  # noqa: F401
        from captum import attr
    except ImportError as error:
        raise UserError(f"explanations need {error.name}: pip install 'mol-fast[explain]'") from error
    return attr


@contextmanager
def _inputs_of(layers: Sequence[nn.Module | None]) -> Iterator[list[Tensor]]:
    """Keep what each layer gets in its last call while the context lasts."""
    kept = [torch.empty(0) for _ in layers]
    hooks = []
    for place, layer in enumerate(layers):

        def keep(_: object, inputs: tuple[Tensor, ...], place: int = place) -> None:
            kept[place] = inputs[0].detach()

        if layer is not None:
            hooks.append(layer.register_forward_pre_hook(keep))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
