"""Cast all weights of a model's heads to the dtype of autocast at once: one operator instead of one per weight."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mol_fast.nn import layout

CAST = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
"""Layers whose weights autocast casts to half precision."""


def casts(like: Tensor) -> bool:
    """Return True if autocast is enabled for the device of `like`."""
    kind = like.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


class CastWeights:
    """Weights and biases of the convolutions and linear layers in `parts`, cast for the time of a forward pass.

    Args:
        parts: modules whose layers are cast.
        padded: returns the padded channel counts of a layer's weight on a GPU, the first two entries of its shape.
            Additional channels are zero.
    """

    def __init__(
        self, parts: Iterable[nn.Module], padded: Callable[[], Mapping[nn.Module, tuple[int, int]]] = dict
    ) -> None:
        layers = [layer for part in parts for layer in part.modules() if isinstance(layer, CAST)]
        self._places = [(layer, name) for layer in layers for name in ("weight", "bias")]
        self._padded = padded

    @contextmanager
    def cast(self, like: Tensor, but: nn.Module | None = None) -> Iterator[None]:
        """Inside the context, replace float32 weights of the layers by casts to the dtype of the active autocast.

        The layers get their own parameters back at the end; these also receive the gradients.

        Args:
            like: a tensor on the device.
            but: module whose layers keep their own weights.
        """
        places: list[tuple[dict[str, Any], str]] = []
        held, shapes = [], []
        kept = set() if but is None else set(but.modules())
        padded = self._padded() if layout.on_gpu(like) else {}
        for layer, name in self._places:
            value = layer._parameters.get(
                name
            )  # none if it was pruned or parametrized: autocast casts what is computed
            if value is not None and value.dtype == torch.float32 and layer not in kept:
                channels = padded.get(layer) if name == "weight" else None
                places.append((layer._parameters, name))
                held.append(value)
                shapes.append(None if channels is None else (*channels, *value.shape[2:]))
        values: Sequence[Tensor] = ()
        if held:
            values = _Cast.apply(torch.get_autocast_dtype(like.device.type), shapes, *held)
        try:
            for (parameters, name), cast in zip(places, values, strict=True):
                parameters[name] = cast
            yield
        finally:
            for (parameters, name), own in zip(places, held, strict=True):
                parameters[name] = own


class _Cast(torch.autograd.Function):
    """Cast tensors to another dtype; pad those with a given shape with zeros in their first two dimensions."""

    @staticmethod
    def forward(dtype: torch.dtype, shapes: Sequence[tuple[int, ...] | None], *tensors: Tensor) -> tuple[Tensor, ...]:
        zeros = iter(_zeros([shape for shape in shapes if shape is not None], tensors[0], dtype))
        out = [
            torch.empty_like(tensor, dtype=dtype) if shape is None else next(zeros)
            for tensor, shape in zip(tensors, shapes, strict=True)
        ]
        _copy([_own(value, tensor.shape) for value, tensor in zip(out, tensors, strict=True)], tensors)
        return tuple(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.like = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs[2:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given, out = [], []
        found: list[Tensor | None] = []
        for gradient, (shape, stride, dtype), wanted in zip(gradients, ctx.like, ctx.needs_input_grad[2:], strict=True):
            if gradient is None or not wanted:
                found.append(None)
                continue
            given.append(_own(gradient, shape))
            out.append(torch.empty_strided(shape, stride, dtype=dtype, device=gradient.device))
            found.append(out[-1])
        _copy(out, given)
        return None, None, *found


def _zeros(shapes: Sequence[tuple[int, ...]], like: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Make channels-last zeros of these shapes with one operator."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    flat = torch.zeros(sum(sizes), dtype=dtype, device=like.device)
    return [
        part.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)
        for part, shape in zip(flat.split(sizes), shapes, strict=True)
    ]


def _own(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the first channels of `tensor`, as many as `shape` has."""
    return tensor if tensor.shape == shape else tensor[: shape[0], : shape[1]]


def _copy(to: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copy tensor by tensor. Pairs with the same memory layout are copied in one launch on a GPU."""
    alike: list[tuple[Tensor, Tensor]] = []
    for pair in zip(to, tensors, strict=True):
        if _order(pair[0]) == _order(pair[1]):
            alike.append(pair)
        else:
            pair[0].copy_(pair[1])
    if alike:
        torch._foreach_copy_([pair[0] for pair in alike], [pair[1] for pair in alike])


def _order(tensor: Tensor) -> list[int]:
    """Return the strides of dimensions with more than one element."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]
