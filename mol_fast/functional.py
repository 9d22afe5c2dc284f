"""The operators of F5C and of the flow head: validation, casting under autocast, and choice of backend.

`backend` is "auto", "triton" or "torch" (batched PyTorch). "auto" takes Triton for tensors on a GPU where it is
installed, in float32, float16 and bfloat16 up to 512 channels and 64 x 64 cells, and PyTorch otherwise. A backend
asked for by name that cannot run raises; nothing falls back silently.
"""

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast import batched
from mol_fast.branch import FCCBranch

__all__ = ["BACKENDS", "VARIANTS", "FCCBranch", "ccc", "correlation", "fcc"]

BACKENDS = ("auto", "torch", "triton")
VARIANTS = ("paper", "official")
MAX_CHANNELS, MAX_SIDE = 512, 64
"""Sizes up to which "auto" takes the Triton kernels."""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # what find_spec says of a package that was blocked in sys.modules
        return False


HAS_TRITON = _installed("triton")


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
        mean, var: statistics of the batch normalisation, `(C,)`, `(1, C)` or `(G, C)`; both None (training): those
            of x plus the first positions, per group, or 0 and 1 when there are no maps.
        groups: number G of statistics groups; map n belongs to group n mod G; N must be a multiple of G.
        eps: added to the variance.
        backend: see the module.

    Returns:
        The maps `(N, C, H, W)`, and the mean and biased variance that were used: `(G, C)`, or `(1, C)` when one of
        each was given for all groups.

    Raises:
        ValueError: naming the argument that has a wrong shape, type or value.
        RuntimeError: the backend asked for cannot run here.
    """
    _check_maps("x", x)
    triton = _use_triton(backend, x)
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
        mean, var = torch.broadcast_tensors(
            _check_statistics("mean", mean, x, groups), _check_statistics("var", var, x, groups)
        )
    dtype = _compute_dtype(x)
    with no_autocast(x):
        if triton:
            from mol_fast.kernels import fcc as kernels

            return kernels.fcc(x.to(dtype), vh, hv, mean=mean, var=var, groups=groups, eps=eps)
        return batched.fcc(x.to(dtype), vh, hv, mean, var, groups, eps)


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
    """Channel correspondence convolution with its residual (CCC of the paper), an edge convolution on nearest nodes.

    Args:
        x: maps `(N, C, H, W)`, floating point; D = H W.
        node_weight, edge_weight: `(D, D)`; node_bias, edge_bias: `(D,)`.
        mix_weight, mix_bias: 1x1 convolution over channels, `(C, C)` and `(C,)`; variant "paper" only.
        k: number of neighbours, the node itself included; 1 to C ("paper") or 1 to D ("official").
        variant: "paper" (nodes are channels) or "official" (nodes are positions, as in the released code).
        backend: see the module; "official" exists in PyTorch only.

    Neighbours are selected at float32 accuracy or better (in PyTorch, unless torch.set_float32_matmul_precision
    lowers that of every product) and carry no gradient. Which of several equally similar
    nodes are taken is not specified. A node with a NaN takes any nodes, and may be taken by any node of its map;
    other maps of the batch are not affected.

    Returns:
        The maps `(N, C, H, W)`.

    Raises:
        ValueError: naming the argument that has a wrong shape, type or value.
        RuntimeError: the backend asked for cannot run here.
    """
    _check_maps("x", x)
    check_choice("variant", variant, VARIANTS)
    if variant == "official" and backend == "triton":
        raise RuntimeError('backend="triton" has no variant "official"; use backend="torch" or "auto"')
    triton = _use_triton(backend, x)
    _, c, h, w = x.shape
    for name, value, shape in (
        ("node_weight", node_weight, (h * w, h * w)),
        ("node_bias", node_bias, (h * w,)),
        ("edge_weight", edge_weight, (h * w, h * w)),
        ("edge_bias", edge_bias, (h * w,)),
    ):
        _check_parameter(name, value, shape, x)
    nodes = c if variant == "paper" else h * w
    if not 1 <= k <= nodes:
        raise ValueError(f"k must be from 1 to the number of nodes, {nodes}, got {k}")
    dtype = _compute_dtype(x)
    linears = (node_weight, node_bias, edge_weight, edge_bias)
    if variant == "official":
        with no_autocast(x):
            return batched.ccc_official(x.to(dtype), *linears, k)
    if mix_weight is None or mix_bias is None:
        raise ValueError('mix_weight and mix_bias must be given for variant "paper"')
    _check_parameter("mix_weight", mix_weight, (c, c), x)
    _check_parameter("mix_bias", mix_bias, (c,), x)
    with no_autocast(x):
        if triton:
            from mol_fast.kernels import ccc as kernels

            return kernels.ccc(x.to(dtype), *linears, mix_weight, mix_bias, k)
        return batched.ccc_paper(x.to(dtype), *linears, mix_weight, mix_bias, k)


def correlation(
    a: Tensor,
    b: Tensor,
    max_displacement: int = 20,
    stride: int = 2,
    *,
    negative_slope: float = 1.0,
    backend: str = "auto",
) -> Tensor:
    """Correlation of two maps over a window of displacements (FlowNetC), and LeakyReLU where asked for.

    out[n, (dy, dx), y, x] = mean over c of a[n, c, y, x] b[n, c, y + dy, x + dx], zero where the second position
    leaves the map; dy and dx run over the multiples of `stride` up to `max_displacement`, dy outer.

    Args:
        a, b: maps `(N, C, H, W)`, floating point, same shape, dtype and device.
        max_displacement, stride: in cells of the map.
        negative_slope: of the LeakyReLU that follows; 1 for none.
        backend: see the module.

    Returns:
        `(N, (2 (max_displacement // stride) + 1)^2, H, W)`.

    Raises:
        ValueError: naming the argument that has a wrong shape, type or value.
        RuntimeError: the backend asked for cannot run here.
    """
    _check_maps("a", a)
    _check_maps("b", b)
    triton = _use_triton(backend, a)
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        like = f"{tuple(a.shape)} {a.dtype} on {a.device}"
        raise ValueError(f"b must be like a ({like}), got {tuple(b.shape)} {b.dtype} on {b.device}")
    if stride < 1 or max_displacement < 0:
        raise ValueError(
            f"stride must be positive and max_displacement at least 0, got {stride} and {max_displacement}"
        )
    dtype = _compute_dtype(a)
    with no_autocast(a):
        if triton:
            from mol_fast.kernels import correlation as kernels

            return kernels.correlation(a.to(dtype), b.to(dtype), max_displacement, stride, negative_slope)
        out = batched.correlation(a.to(dtype), b.to(dtype), max_displacement, stride)
        return out if negative_slope == 1 else F.leaky_relu(out, negative_slope)


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


def _use_triton(backend: str, x: Tensor) -> bool:
    """Whether `backend` means the Triton kernels for `x`."""
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


def _check_statistics(name: str, value: Tensor, x: Tensor, groups: int) -> Tensor:
    c = x.shape[1]
    if value.dim() not in (1, 2) or value.shape[-1] != c or (value.dim() == 2 and value.shape[0] not in (1, groups)):
        raise ValueError(f"{name} must be ({c},) or ({groups}, {c}), got {tuple(value.shape)}")
    _check_device(name, value, x)
    return value.reshape(-1, c)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the ambient autocast for x's device when there is one, else that of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return x.dtype


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast leaves operations on the device of `x` alone."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
