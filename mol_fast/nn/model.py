"""MOL: joint estimation of micro-expression, optical flow and landmarks of a clip.

Shapes: B clips, T frames, P = T - 1 pairs of consecutive frames. All frames form one batch, and so do all pairs.
"""

import copy
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from mol_fast.nn import layout
from mol_fast.nn.block import make_block
from mol_fast.nn.cast_weights import CastWeights, casts
from mol_fast.nn.config import FEATURE_CHANNELS, MOLConfig
from mol_fast.nn.flow_head import FlowHead, with_difference
from mol_fast.nn.flow_layers import Conv
from mol_fast.nn.heads import ExpressionHead, LandmarkHead, Stem
from mol_fast.nn.pretrained import Pretrained
from mol_fast.utils.bfloat16 import emulates_bfloat16, warn_emulated
from mol_fast.vision.facs import UNITS
from mol_fast.vision.sizes import CROP


class MOLOutput(NamedTuple):
    """Output of `MOL` for a batch of clips."""

    logits: Tensor
    """Logits of the expression classes, `(B, K)`."""
    flow: Tensor | None = None
    """Flow t -> t+1, `(B, 2, T-1, H, W)`, in pixels; channel 0 along x (columns), 1 along y (rows). None without the
    task "flow"."""
    landmarks: Tensor | None = None
    """68 iBUG points (x, y) of frames 1..T-1, `(B, T-1, 68, 2)`, in pixels of the crop. None without the task
    "landmarks"."""


class MOLUnitsOutput(NamedTuple):
    """Output of a `MOL` with the task "units": a `MOLOutput` and one field more."""

    logits: Tensor
    flow: Tensor | None
    landmarks: Tensor | None
    units: Tensor
    """Logits of the action units `mol_fast.vision.facs.UNITS`, `(B, 12)`. Several units may be there, or none."""


Output = MOLOutput | MOLUnitsOutput
"""Output of a model; which of the two depends on its tasks alone."""


class Estimator(nn.Module):
    """A model of clips: MOL, or a baseline of `mol_fast.baselines`. `forward` returns an `Output`.

    Attributes:
        reads: items of a clip that `forward` takes, see `mol_fast.data.ClipDataset`.
        config: configuration of the model; its `to_dict` gives plain values.
    """

    reads: ClassVar[tuple[str, ...]]
    config: Any


class MOL(Estimator, Pretrained):
    """Joint estimation of micro-expression, optical flow and landmarks (MOL paper), `(B, 1, T, 128, 128) -> MOLOutput`.

    Args:
        num_classes: number of expression classes; overrides the configuration.
        config: the configuration (see `MOLConfig`). Default: `MOLConfig()`.
        **options: fields of the configuration to override, for example `neighbors=4, variant="official"`.

    Attributes:
        config: the configuration.
        info: what the weights of `from_pretrained` say about their training, as plain values ("classes", "sources",
            ...); empty for a new model.
        frozen: names of the parts that are not trained, see `freeze`.

    Raises:
        ValueError: an option is not possible, or the clip has a wrong shape or dtype.
    """

    reads = ("frames",)

    def __init__(self, num_classes: int | None = None, config: MOLConfig | None = None, **options: Any) -> None:
        super().__init__()
        if num_classes is not None:
            options["num_classes"] = num_classes
        self.config = config = replace(config or MOLConfig(), **options)
        self.info: dict[str, Any] = {}
        self.frozen: tuple[str, ...] = ()
        frame_stats = config.norm_stats == "frame"
        self.stem = Stem(activation=config.variant == "paper")
        self.f5c_first = make_block(config)
        self.f5c_second = make_block(config)
        self.flow_head: FlowHead | None = None
        self.landmark_head: LandmarkHead | None = None
        if "flow" in config.tasks:
            self.flow_head = FlowHead(
                FEATURE_CHANNELS, 1 + config.difference, config.flow_width, frame_stats, config.backend
            )
        if "landmarks" in config.tasks:
            self.landmark_head = LandmarkHead()
        self.expression_head = ExpressionHead(config.num_classes, config.frames, config.dropout)
        self.unit_head: ExpressionHead | None = None
        if "units" in config.tasks:  # last, so that it changes no weight that the others draw
            self.unit_head = ExpressionHead(len(UNITS), config.frames, config.dropout)
        parts: list[nn.Module] = [self.stem, self.expression_head]
        if self.unit_head is not None:
            parts.append(self.unit_head)
        if self.landmark_head is not None:
            parts += [self.landmark_head.conv, self.landmark_head.fc1]  # fc2 is exact
        if self.flow_head is not None:
            parts.append(self.flow_head)
        padding = () if self.flow_head is None else (self.flow_head.padded_channels,)
        self._weights = CastWeights(parts, *padding)

    def forward(self, clip: Tensor, stills: Tensor | None = None) -> Output | tuple[Output, Tensor]:
        """Estimate all tasks of clips, and the landmarks of single frames.

        Args:
            clip: clips, normalised.
            stills: single frames `(N, 1, 128, 128)`, normalised. They share batch statistics with the clips.

        Returns:
            The output of the clips, a `MOLUnitsOutput` with the task "units", else a `MOLOutput`; with stills, a pair
            of it and of the stills' landmarks `(N, 68, 2)`.

        Raises:
            ValueError: a shape or dtype is wrong, or the model has no head for the landmarks of stills.
        """
        frames = self.config.frames
        if clip.dim() != 5 or tuple(clip.shape[1:]) != (1, frames, CROP, CROP):
            expected = f"(B, 1, {frames}, {CROP}, {CROP})"
            raise ValueError(f"clip must have shape {expected}, got {tuple(clip.shape)}")
        if not clip.is_floating_point():
            raise ValueError(f"clip must be floating point, normalised, got {clip.dtype}")
        if stills is not None:
            self._check_stills(stills, clip)
        if torch.compiler.is_compiling() or not casts(clip):
            return self._estimate(clip, stills)
        # Layers that are recomputed in the backward pass keep their own weights: the cast ones are gone by then.
        again = self.flow_head if self.flow_head is not None and self.flow_head.recompute else None
        with self._weights.cast(clip, again):
            return self._estimate(clip, stills)

    def _check_stills(self, stills: Tensor, clip: Tensor) -> None:
        if self.landmark_head is None or self.config.norm_stats == "frame":
            raise ValueError("stills need the task landmarks and norm_stats clip")
        if tuple(stills.shape) != (max(1, len(stills)), 1, CROP, CROP) or stills.dtype != clip.dtype:
            raise ValueError(
                f"stills must have shape (N, 1, {CROP}, {CROP}), N > 0, and the dtype of clip, {clip.dtype}, got "
                f"{tuple(stills.shape)} and {stills.dtype}"
            )

    def _estimate(self, exact: Tensor, stills: Tensor | None) -> Output | tuple[Output, Tensor]:
        b, pairs = exact.shape[0], self.config.frames - 1
        clip = exact.to(self.stem.conv1.weight.dtype)
        frames = rearrange(clip, "b c t h w -> (b t) c h w")
        parts = [b * (pairs + 1), 0 if stills is None else len(stills)]
        stem, single = _split(self.stem(frames if stills is None else torch.cat([frames, stills.to(clip)])), parts)
        stem = stem.unflatten(0, (b, pairs + 1))
        groups = pairs if self.config.norm_stats == "frame" else 1
        # F5C reads and writes contiguous maps; the frames are copied from the stem's output in any layout. The heads
        # read channels last: one copy for flow and expression, and on a GPU one for landmarks.
        first = self.f5c_first(stem[:, :-1].flatten(0, 1), groups)  # (B P, C, h, w)
        later = stem[:, 1:].flatten(0, 1)
        second = self.f5c_second(later if single is None else torch.cat([later, single]), groups)
        if layout.on_gpu(second):
            second = second.contiguous(memory_format=torch.channels_last)
        parts[0] = b * pairs
        landmarks = of_stills = None
        if self.landmark_head is not None:
            landmarks, of_stills = _split(self.landmark_head(second), parts)
            landmarks = landmarks.unflatten(0, (b, pairs))
        second, _ = _split(second, parts)
        sides = [maps.unflatten(0, (b, pairs)).permute(0, 1, 3, 4, 2) for maps in (first, second)]
        features = torch.stack(sides)  # (2, B, P, h, w, C)
        if self.config.center:
            features = self._center(features)
        flow = None
        if self.flow_head is not None:
            seen = with_difference(exact) if self.config.difference else exact  # before rounding: differences are small
            first, second = features.flatten(1, 2).permute(0, 1, 4, 2, 3).unbind()
            flow = self.flow_head(seen.to(clip.dtype), first, second)
        logits = self.expression_head(features)
        output: Output = MOLOutput(logits, flow, landmarks)
        if self.unit_head is not None:
            output = MOLUnitsOutput(logits, flow, landmarks, self.unit_head(features))
        return output if of_stills is None else (output, of_stills)

    def freeze(self, names: Collection[str]) -> None:
        """Freeze these parts and no others: their weights get no gradients, and they stay in evaluation mode.

        So their norms use and keep their running statistics, and their dropout does nothing, also after `train()`.
        Gradients pass through a frozen part to the parts before it.

        Args:
            names: parts of `FREEZABLE`: "stem", "f5c" (both blocks), and the heads "mer", "flow", "landmarks", "units".

        Raises:
            ValueError: a name is unknown, or the model has no such head.
        """
        parts = self._parts()
        for name in names:
            if name not in parts:
                raise ValueError(f"freeze has no part {name} in this model: choose among {', '.join(parts)}")
        self.frozen = tuple(name for name in parts if name in names)
        for name, modules in parts.items():
            for module in modules:
                module.requires_grad_(name not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            for module in self._parts()[name]:
                module.eval()
        return self

    def _parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """Return the parts that the model has, by their names in `FREEZABLE`."""
        parts: dict[str, tuple[nn.Module, ...]] = {
            "stem": (self.stem,),
            "f5c": (self.f5c_first, self.f5c_second),
            "mer": (self.expression_head,),
        }
        heads = {"flow": self.flow_head, "landmarks": self.landmark_head, "units": self.unit_head}
        return parts | {name: (head,) for name, head in heads.items() if head is not None}

    def optimize_for_inference(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> "MOL":
        """Return a faster copy for inference, in evaluation mode and without gradients.

        The outputs are equal up to the rounding of `dtype`. Batch normalisations of the flow head are folded into its
        convolutions. Weights are stored in `dtype` instead of being cast in every call; the F5C blocks, the last
        layer of the landmark head, and the landmarks stay in float32 or better. Call the copy under
        `torch.inference_mode()` or `torch.no_grad()`. Do not use it for training or `save_weights`.

        Args:
            dtype: dtype of weights and arithmetic; torch.bfloat16 if the device has instructions for it.
            compile: compile the copy as one graph at the first call, which takes half a minute or more, and again for
                each of up to eight batch sizes; further sizes run uncompiled. The graph keeps the weights of the first
                call as constants. A copy of the compiled model is not compiled.

        Raises:
            ValueError: `dtype` is not floating point.
        """
        return optimized(self, dtype, compile)

    def _center(self, features: Tensor) -> Tensor:
        """Subtract the mean over time of a clip from each map, and scale: motion stays, identity goes."""
        return self.config.feature_scale * (features - features.mean(dim=2, keepdim=True))


def _split(x: Tensor, parts: list[int]) -> tuple[Tensor, Tensor | None]:
    """Return the rows of clips and those of stills; None if there are none."""
    if not parts[1]:
        return x, None
    of_clips, of_stills = x.split(parts)
    return of_clips, of_stills


def optimized(model: MOL, dtype: torch.dtype, compile: bool) -> MOL:
    """Return a copy of `model` for inference, see `MOL.optimize_for_inference`."""
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating point, got {dtype}")
    if dtype == torch.bfloat16 and emulates_bfloat16(next(model.parameters()).device):
        warn_emulated()
    model = copy.deepcopy(model).eval().requires_grad_(False)
    model.to(torch.promote_types(dtype, torch.float32))
    for module in model.modules():
        if isinstance(module, Conv):
            module.fold()
    if model.flow_head is not None:
        model.flow_head.recompute = False
        model.flow_head.to(dtype)
    if model.landmark_head is not None:
        model.landmark_head.conv.to(dtype)
        model.landmark_head.fc1.to(dtype)
    model.stem.to(dtype)
    model.expression_head.to(dtype)
    if model.unit_head is not None:
        model.unit_head.to(dtype)
    if compile:
        compile_frozen(model)
    return model


def compile_frozen(module: nn.Module) -> None:
    """Compile a module at its first call, in place, one graph for each shape, with its weights as constants.

    The option of `torch.compile` for this applies too late: parameters have become inputs by then.
    """
    import torch._inductor.config as compiler  # which takes a second

    module.compile(dynamic=False)
    call: Callable[..., Any] = module._compiled_call_impl  # type: ignore[assignment]

    def run(*args: Any, **kwargs: Any) -> Any:
        with compiler.patch(freezing=True):
            return call(*args, **kwargs)

    module._compiled_call_impl = run
