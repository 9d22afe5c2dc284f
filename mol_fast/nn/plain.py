"""Tell whether a layer is still as it was made. Only then may its parameters be read instead of calling it.

F5C and the flow head fuse layers: they read weights and run operators of their own. A hook, a pruned weight, an adapter
(LoRA) or a quantised layer takes effect only in a call, so a layer that has changed is called.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_TENSORS = (Tensor, nn.Parameter)
_METHODS = ("forward", "__call__", "_conv_forward")
"""What a subclass may override to compute something else."""


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return True if `layer` computes as the class `kind` does, and has no hooks of its own.

    A parametrized layer is plain: reading its weight applies the parametrization. Hooks on all modules of a process do
    not count, because tools that measure would then measure something else.
    """
    given = type(layer)
    return (
        (given is kind or all(getattr(given, name, None) is getattr(kind, name, None) for name in _METHODS))
        and "forward" not in layer.__dict__
        and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
    )


def read(module: nn.Module, kind: type[nn.Module], names: Iterable[str]) -> list[Any]:
    """Return parameters of a module by name, of class `kind` in a fraction of the time that attributes take.

    A parameter that is parametrized, pruned or a replica's is no entry of the module's, and is read as an attribute.
    """
    entries = module._parameters if type(module) is kind else {}
    return [entries[name] if name in entries else getattr(module, name) for name in names]


def read_linear(layer: nn.Module, kind: type[nn.Module]) -> tuple[Tensor, Tensor] | None:
    """Return weight and bias of a plain linear layer or 1x1 convolution; None if it must be called.

    Its weights must be ordinary tensors: quantised ones (torchao) can be multiplied, but not added or concatenated.
    """
    if not is_plain(layer, kind):
        return None
    if kind is nn.Conv2d and not (
        layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
    ):
        return None
    weight, bias = read(layer, kind, ("weight", "bias"))
    for value in (weight, bias):
        if type(value) not in _TENSORS and (value is None or is_traceable_wrapper_subclass(value)):
            return None
    return weight, bias
