"""The operators of F5C and the flow head: checks of arguments, casts under autocast, choice of backend.

`backend` is "auto", "triton" or "torch" (batched PyTorch). "auto" uses Triton, if installed, for GPU tensors in
float32, float16 and bfloat16 up to 512 channels and 64 x 64 cells, and PyTorch otherwise. A backend requested by name
never falls back: if it cannot run, it raises an error.
"""

import importlib.util
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast.ops import ccc as batched_ccc
from mol_fast.ops import correlation as batched_correlation
from mol_fast.ops import fcc as batched_fcc
from mol_fast.ops.fcc import FCCBranch
from mol_fast.utils.passed import Passed

__all__ = ["BACKENDS", "VARIANTS", "FCCBranch", "ccc", "correlation", "fcc"]

BACKENDS = ("auto", "torch", "triton")
VARIANTS = ("paper", "official")
MAX_CHANNELS, MAX_SIDE = 512, 64
"""Largest sizes for which "auto" uses the Triton kernels."""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # find_spec raises this for a package that is blocked in sys.modules
        return False


HAS_TRITON = _installed("triton")

_LINEARS = ("node_weight", "node_bias", "edge_weight", "edge_bias")


_passed = Passed()


def fcc(
    x: Tensor,
    vh: FCCBranch,
    hv: FCCBranch,
    *,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    groups: int = 1,
    eps: float = 1e-5,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Fully-connected convolution with its residual (FCC of the paper): two circular depthwise convolutions per half.

    Args:
        x: maps `(N, C, H, W)`, C even, floating point.
        vh, hv: parameters of the two branches, C/2 channels each (see `FCCBranch`).
        mean, var: statistics of the batch normalisation, `(C,)`, `(1, C)` or `(G, C)`. Default (training): the
            statistics of x plus first positions, per group; 0 and 1 if there are no maps. If you pass
            them, only PyTorch computes their gradient.
        groups: number G of statistics groups. Map n belongs to group n mod G; N must be a multiple of G.
        eps: added to the variance.
        backend: see the module.

    Returns:
        The maps `(N, C, H, W)`, and the mean and biased variance that were used: `(G, C)`, or `(1, C)` if one of each
        was given for all groups.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend cannot run here; or it is Triton, and mean or var needs a gradient.
    """
    dtype = compute_dtype(x)
    given = (mean, var) if mean is not None and var is not None else ()
    key = _passed.key((x, *vh, *hv, *given), HAS_TRITON, groups, backend, dtype, mean is None, var is None)
    triton = _passed.get(key)
    if triton is None:
        triton = _passed.add(key, _check_fcc(x, vh, hv, mean, var, groups, backend, dtype))
    if mean is not None and var is not None:
        mean, var = mean.reshape(-1, x.shape[1]), var.reshape(-1, x.shape[1])
        if mean.shape != var.shape:
            mean, var = torch.broadcast_tensors(mean, var)
    if triton:
        from mol_fast.kernels import fcc as kernels

        return kernels.fused(x.to(dtype), vh, hv, mean, var, groups, eps)
    with no_autocast(x):
        return batched_fcc.fcc(x.to(dtype), vh, hv, mean, var, groups, eps)


def _check_fcc(
    x: Tensor,
    vh: FCCBranch,
    hv: FCCBranch,
    mean: Tensor | None,
    var: Tensor | None,
    groups: int,
    backend: str,
    dtype: torch.dtype,
) -> bool:
    """Check the arguments of `fcc`, and return True if it uses Triton, in `dtype`."""
    _check_maps("x", x)
    triton = use_triton(backend, x)
    n, c, h, w = x.shape
    if c % 2:
        raise ValueError(f"x must have an even number of channels, got {c}")
    for name, branch, first, second in (("vh", vh, h, w), ("hv", hv, w, h)):
        _check_branch(name, branch, x, first, second)
    if groups < 1 or n % groups:
        raise ValueError(f"groups must divide the number of maps, got groups={groups} for x of {tuple(x.shape)}")
    if (mean is None) != (var is None):
        raise ValueError("mean and var must be given together, or neither")
    if mean is not None and var is not None:
        _check_statistics("mean", mean, x, groups)
        _check_statistics("var", var, x, groups)
    if triton:
        from mol_fast.kernels import fcc as kernels

        kernels.check(x.to(dtype), vh, hv, groups)
    return triton


def ccc(
    x: Tensor,
    node_weight: Tensor,
    node_bias: Tensor,
    edge_weight: Tensor,
    edge_bias: Tensor,
    mix_weight: Tensor | None = None,
    mix_bias: Tensor | None = None,
    *,
    k: int,
    variant: str = "paper",
    backend: str = "auto",
) -> Tensor:
    """Channel correspondence convolution with its residual (CCC of the paper): edge convolution over neighbours.

    Neighbours are selected in float32 accuracy or better (in PyTorch, unless torch.set_float32_matmul_precision lowers
    the accuracy of products), and carry no gradient. Ties between equally similar nodes are broken arbitrarily. A node
    with a NaN has arbitrary neighbours, and may be an arbitrary node's neighbour in its map. Other maps of the batch
    are not affected.

    Args:
        x: maps `(N, C, H, W)`, floating point; D = H W.
        node_weight, edge_weight: `(D, D)`; node_bias, edge_bias: `(D,)`.
        mix_weight, mix_bias: 1x1 convolution over channels, `(C, C)` and `(C,)`; variant "paper" only.
        k: number of neighbours including the node itself; 1 to C ("paper") or 1 to D ("official").
        variant: "paper" (nodes are channels) or "official" (nodes are positions, as in the official code).
        backend: see the module; "official" runs only in PyTorch.

    Returns:
        The maps `(N, C, H, W)`.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend cannot run here.
    """
    linears = (node_weight, node_bias, edge_weight, edge_bias)
    mix: tuple[Tensor, ...] = ()
    if mix_weight is not None and mix_bias is not None:
        mix = mix_weight, mix_bias
    dtype = compute_dtype(x)
    key = _passed.key((x, *linears, *mix), HAS_TRITON, k, variant, backend, dtype)
    triton = _passed.get(key)
    if triton is None:
        triton = _passed.add(key, _check_ccc(x, linears, mix, k, variant, backend, dtype))
    if triton:
        from mol_fast.kernels import ccc as kernels

        return kernels.fused(x.to(dtype), (*linears, *mix), k)
    with no_autocast(x):
        if variant == "official":
            return batched_ccc.ccc_official(x.to(dtype), *linears, k)
        return batched_ccc.ccc_paper(x.to(dtype), *linears, mix[0], mix[1], k)


def _check_ccc(
    x: Tensor,
    linears: tuple[Tensor, ...],
    mix: tuple[Tensor, ...],
    k: int,
    variant: str,
    backend: str,
    dtype: torch.dtype,
) -> bool:
    """Check the arguments of `ccc`, and return True if it uses Triton, in `dtype`."""
    _check_maps("x", x)
    check_choice("variant", variant, VARIANTS)
    if variant == "official" and backend == "triton":
        raise RuntimeError('backend="triton" has no variant "official"; use backend="torch" or "auto"')
    triton = use_triton(backend, x) and variant == "paper"
    _, c, h, w = x.shape
    d = h * w
    for name, value, shape in zip(_LINEARS, linears, ((d, d), (d,), (d, d), (d,)), strict=True):
        _check_parameter(name, value, shape, x)
    nodes = c if variant == "paper" else d
    if not 1 <= k <= nodes:
        raise ValueError(f"k must be from 1 to the number of nodes, {nodes}, got {k}")
    if variant == "official":
        if mix:
            raise ValueError('variant "official" has no mix_weight and mix_bias; use variant "paper"')
        return False
    if not mix:
        raise ValueError('mix_weight and mix_bias must be given for variant "paper"')
    _check_parameter("mix_weight", mix[0], (c, c), x)
    _check_parameter("mix_bias", mix[1], (c,), x)
    if triton:
        from mol_fast.kernels import ccc as kernels

        kernels.check(x.to(dtype), (*linears, *mix), k)
    return triton


def f5c(
    x: Tensor,
    vh: FCCBranch,
    hv: FCCBranch,
    linears: tuple[Tensor, ...],
    statistics: Sequence[Tensor],
    groups: int,
    eps: float,
    momentum: float,
    k: int,
    training: bool,
) -> Tensor:
    """Compute `ccc` of `fcc` in one step of the Triton kernels, which takes the host less time.

    All tensors must be `mol_fast.kernels.operators.ordinary`.

    Args:
        x: maps `(N, C, H, W)`, N at least 1.
        vh, hv, groups, eps: as in `fcc`.
        linears, k: the six parameters of `ccc`, variant "paper", in its order, and its k.
        statistics: running mean and variance `(C/2,)` of vh, then of hv. Training updates them, and the counts of
            batches `()` of both, which follow. There they must be contiguous, and may all be missing.
        momentum: share of a group in the running statistics.
        training: whether to normalise by the batch.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: statistics need a gradient in evaluation.
    """
    from mol_fast.kernels import f5c as kernels

    x = x.to(compute_dtype(x))
    return kernels.fused(x, vh, hv, linears, statistics, groups, eps, momentum, k, training)


def correlation(
    a: Tensor,
    b: Tensor,
    max_displacement: int = 20,
    stride: int = 2,
    *,
    negative_slope: float = 1.0,
    backend: str = "auto",
) -> Tensor:
    """Correlation of two maps over a window of displacements (FlowNetC), optionally with LeakyReLU.

    out[n, (dy, dx), y, x] = mean over c of a[n, c, y, x] b[n, c, y + dy, x + dx], or zero if the second position is
    outside the map. dy and dx run over the multiples of `stride` up to `max_displacement`; dy is the outer index.

    Args:
        a, b: maps `(N, C, H, W)`, floating point, same shape, dtype and device.
        max_displacement, stride: in cells of the map.
        negative_slope: slope of the LeakyReLU; 1 for none.
        backend: see the module.

    Returns:
        `(N, (2 (max_displacement // stride) + 1)^2, H, W)`.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend cannot run here.
    """
    dtype = compute_dtype(a)
    key = _passed.key((a, b), HAS_TRITON, max_displacement, stride, negative_slope, backend, dtype)
    triton = _passed.get(key)
    if triton is None:
        window = max_displacement, stride, negative_slope
        triton = _passed.add(key, _check_correlation(a, b, *window, backend, dtype))
    if triton:
        from mol_fast.kernels import correlation as kernels

        return kernels.fused(a.to(dtype), b.to(dtype), max_displacement, stride, negative_slope)
    with no_autocast(a):
        out = batched_correlation.correlation(a.to(dtype), b.to(dtype), max_displacement, stride)
        return out if negative_slope == 1 else F.leaky_relu(out, negative_slope)


def _check_correlation(
    a: Tensor, b: Tensor, max_displacement: int, stride: int, negative_slope: float, backend: str, dtype: torch.dtype
) -> bool:
    """Check the arguments of `correlation`, and return True if it uses Triton, in `dtype`."""
    _check_maps("a", a)
    _check_maps("b", b)
    triton = use_triton(backend, a)
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        like = f"{tuple(a.shape)} {a.dtype} on {a.device}"
        raise ValueError(f"b must be like a ({like}), got {tuple(b.shape)} {b.dtype} on {b.device}")
    if stride < 1 or max_displacement < 0:
        raise ValueError(
            f"stride must be positive and max_displacement at least 0, got {stride} and {max_displacement}"
        )
    if triton:
        from mol_fast.kernels import correlation as kernels

        kernels.check(a.to(dtype), b.to(dtype), max_displacement, stride, negative_slope)
    return triton


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_maps(name: str, x: Tensor) -> None:
    if x.dim() != 4:
        raise ValueError(f"{name} must have 4 dimensions (N, C, H, W), got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype}")
    if min(x.shape[1:]) < 1:
        raise ValueError(f"{name} must have at least one channel, row and column, got shape {tuple(x.shape)}")


def _check_parameter(name: str, value: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape} for x of {tuple(x.shape)}, got {tuple(value.shape)}")
    _check_device(name, value, x)


def _check_device(name: str, value: Tensor, x: Tensor) -> None:
    if value.device != x.device:
        raise ValueError(f"{name} is on {value.device} but x is on {x.device}; move one of them")


def use_triton(backend: str, x: Tensor) -> bool:
    """Return True if `backend` uses the Triton kernels for `x`."""
    check_choice("backend", backend, BACKENDS)
    if backend == "auto":
        small = x.shape[1] <= MAX_CHANNELS and max(x.shape[2:]) <= MAX_SIDE
        return HAS_TRITON and x.is_cuda and x.dtype != torch.float64 and small
    if backend == "torch":
        return False
    if not HAS_TRITON:
        raise RuntimeError('backend="triton" needs the package triton, which is not installed; use backend="torch"')
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET", "0") != "1":
        raise RuntimeError(f'backend="triton" needs tensors on a GPU, got one on {x.device}; use backend="auto"')
    return True


def _check_branch(name: str, branch: FCCBranch, x: Tensor, first: int, second: int) -> None:
    c = x.shape[1] // 2
    shapes = ((c, first), (c, first), (c,), (c, second), (c, second), (c,), (c,), (c,))
    for field, value, shape in zip(FCCBranch._fields, branch, shapes, strict=True):
        _check_parameter(f"{name}.{field}", value, shape, x)


def _check_statistics(name: str, value: Tensor, x: Tensor, groups: int) -> None:
    c = x.shape[1]
    if value.dim() not in (1, 2) or value.shape[-1] != c or (value.dim() == 2 and value.shape[0] not in (1, groups)):
        raise ValueError(f"{name} must be ({c},) or ({groups}, {c}), got {tuple(value.shape)}")
    _check_device(name, value, x)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of the active autocast for the device of `x`, or else the dtype of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return x.dtype


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the device of `x`."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
