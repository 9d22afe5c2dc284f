"""Register the operators with PyTorch's dispatcher, in the way that makes eager calls cheapest.

`torch.library.custom_op` flattens lists, checks aliases and wraps contexts on every call: a hundred Python calls or
more. Here an operator has a schema, an implementation, a fake implementation for tracing, and a
`torch.autograd.Function`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad

LIBRARY = torch.library.Library("mol_fast", "FRAGMENT")

below_autograd = torch._C._AutoDispatchBelowAutograd
"""A context in which operators do not record for autograd, for use inside an autograd.Function."""


def define(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> OpOverload:
    """Register `mol_fast::SCHEMA` for all devices, without a derivative."""
    name = schema.partition("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"mol_fast::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.mol_fast, name).default


def differentiate(operator: OpOverload, record: Callable[..., Any]) -> None:
    """Register `record` for autograd. It is called with the operator's arguments if gradients are recorded."""

    def autograd(*arguments: Any) -> Any:
        if torch.is_grad_enabled():
            return record(*arguments)
        with below_autograd():
            return operator(*arguments)

    LIBRARY.impl(operator._opname, autograd, "Autograd")
    RECORDS[operator] = autograd


RECORDS: dict[OpOverload, Callable[..., Any]] = {}
"""Function that the dispatcher calls for autograd, by operator."""


def call(operator: OpOverload, *arguments: Any) -> Any:
    """Call an operator. Outside tracing, skip the dispatcher and call its autograd function directly."""
    if torch.compiler.is_compiling():
        return operator(*arguments)
    return RECORDS[operator](*arguments)


def end(operator: OpOverload) -> None:
    """Let the derivative of `operator`, which is a first derivative, raise RuntimeError."""
    differentiate(operator, lambda *arguments: list(_End.apply(operator, arguments, *tensors(arguments))))


USUAL = sum(
    torch._C.DispatchKeySet(key).raw_repr()
    for key in (torch._C.DispatchKey.BackendSelect, torch._C.DispatchKey.ADInplaceOrView)
)
"""Dispatch keys of a thread outside modes, transforms and tracing."""

ORDINARY = {Tensor, torch.nn.Parameter}


def ordinary(tensors: Sequence[Tensor]) -> bool:
    """Return True if operators on `tensors` need not go through the dispatcher, as it would only call implementations.

    That is so outside compilation, tracing, modes (fake tensors, counters of operators), transforms of torch.func and
    forward-mode derivatives, and for tensors that hold their own values: of no subclass, and no lazy negative or zero.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._dispatch_tls_local_include_set().raw_repr() & ~USUAL
        and not torch._C._len_torch_function_stack()
        and forward_ad._current_level < 0
        and ORDINARY.issuperset(map(type, tensors))
        and not any(map(Tensor.is_neg, tensors))
        and not tensors[0]._is_zerotensor()
    )


def tensors(arguments: Any) -> list[Tensor]:
    """Return the tensors among arguments and nested lists of arguments."""
    found: list[Tensor] = []
    for value in arguments:
        found += [value] if isinstance(value, Tensor) else tensors(value) if isinstance(value, list | tuple) else []
    return found


class _End(torch.autograd.Function):
    """An operator that returns a list of tensors, whose derivative raises."""

    @staticmethod
    def forward(ctx: Any, operator: OpOverload, arguments: tuple[Any, ...], *_: Tensor) -> tuple[Tensor, ...]:
        ctx.operator = operator
        with below_autograd():
            return tuple(operator(*arguments))

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> Any:
        raise RuntimeError(
            f"{ctx.operator} has no derivative: the Triton kernels differentiate once; for second derivatives use "
            'backend="torch"'
        )
