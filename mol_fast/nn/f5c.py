"""The layers FCC, CCC and F5C as modules."""

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.module import _has_any_global_hook

from mol_fast import functional
from mol_fast.functional import BACKENDS, VARIANTS, FCCBranch, check_choice, use_triton
from mol_fast.nn.norm import (
    FrameBatchNorm2d,
    HoldsNorm,
    joined_running,
    normalise,
    read_norms,
    read_running,
    update_running,
)
from mol_fast.nn.plain import is_plain, read, read_linear
from mol_fast.nn.sync import pool_statistics
from mol_fast.ops import ccc as batched_ccc
from mol_fast.ops import fcc as batched_fcc

__all__ = ["CCC", "F5C", "FCC"]

Size = int | tuple[int, int]
_SIX = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2")
Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""kernel1, pos1, bias1, kernel2, pos2, bias2 of a branch."""


def _pair(size: Size) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"size must be a positive number or (height, width), got {size}")
    return pair


def _normal(channels: int, length: int, deviation: float) -> Tensor:
    """Return random values (channels, length); on the meta device, where they would take a second, only their shape."""
    values = torch.empty(channels, length)
    return values if values.is_meta else values.normal_() * deviation


class _Branch(HoldsNorm):
    """Parameters of one FCC branch with c channels: convolutions of length L1, then L2. A call returns those six."""

    def __init__(self, channels: int, length1: int, length2: int) -> None:
        super().__init__()
        self.norm = FrameBatchNorm2d(channels)
        self.kernel1 = nn.Parameter(_normal(channels, length1, length1**-0.5))
        self.pos1 = nn.Parameter(_normal(channels, length1, 0.02))
        self.bias1 = nn.Parameter(torch.zeros(channels))
        self.kernel2 = nn.Parameter(torch.zeros(channels, length2))
        self.pos2 = nn.Parameter(_normal(channels, length2, 0.02))
        self.bias2 = nn.Parameter(torch.zeros(channels))

    def forward(self) -> Six:
        kernel1, pos1, bias1, kernel2, pos2, bias2 = read(self, _Branch, _SIX)
        return kernel1, pos1, bias1, kernel2, pos2, bias2


def _read_branch(branch: _Branch) -> Six:
    """Return what a call of a branch does, without the call unless it has hooks."""
    six: Six = branch.forward() if is_plain(branch, _Branch) else branch()
    return six


class FCC(nn.Module):
    """Fully-connected convolution with its residual, `(N, C, H, W) -> (N, C, H, W)` (MOL paper, F5C block, first part).

    Adds learned positions and applies batch normalisation. Then half of the channels goes through a vertical, then a
    horizontal circular depthwise convolution. The other half goes through the horizontal one first. Each kernel is as
    long as the map in its direction. The second kernels start at zero, so the layer starts as the identity.

    Each half has its own norm. A frozen norm (`layer.vh.norm.eval()`), `momentum=None` and the other settings of
    `torch.nn.BatchNorm2d` mean the same as there. A norm that was replaced or has hooks is called, on PyTorch; one that
    knows no frames cannot train with `groups` above 1. `SyncBatchNorm.convert_sync_batchnorm` makes the norms share
    their statistics over processes (see `mol_fast.nn.sync`). That runs on PyTorch, because the Triton kernels have no
    gradient for given statistics. If the norms are called, backend="triton" is an error.

    Args:
        channels: C, even.
        size: H = W, or (H, W).
        backend: "auto", "torch" or "triton" (see `mol_fast.functional`).

    Raises:
        ValueError: the size or the number of channels is not possible.
    """

    def __init__(self, channels: int, size: Size, backend: str = "auto") -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"channels must be even and at least 2, got {channels}")
        check_choice("backend", backend, BACKENDS)
        self.channels, self.size, self.backend = channels, _pair(size), backend
        height, width = self.size
        self.vh = _Branch(channels // 2, height, width)
        self.hv = _Branch(channels // 2, width, height)

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """Apply the layer.

        Args:
            x: maps `(N, C, H, W)`.
            groups: number of frames of a clip in the batch (7 in the model). Map n belongs to frame n mod groups.
                Training normalises frame by frame.
        """
        _check_input(x, self.channels, self.size)
        norms = self.norms()
        first: Six = self.vh()
        second: Six = self.hv()
        scales = read_norms(*norms)
        if scales is None:
            return self._call_norms(x, first, second, groups)
        branches = FCCBranch(*first, *scales[:2]), FCCBranch(*second, *scales[2:])
        norm, backend = norms[0], self.backend
        if not norm.batch_statistics():
            known = joined_running(*norms)
            return functional.fcc(x, *branches, mean=known[0], var=known[1], eps=norm.eps, backend=backend)[0]
        mean = var = count = None
        if norm.synchronised and norm.shares():
            mean, var, count = self._shared_statistics(x, groups)
            backend = "torch"
        y, mean, var = functional.fcc(x, *branches, mean=mean, var=var, groups=groups, eps=norm.eps, backend=backend)
        if x.shape[0]:
            cells = x.shape[0] * x.shape[2] * x.shape[3] // groups if count is None else count
            self._update_running(norms, mean.detach(), var.detach(), cells, use_triton(backend, x))
        return y

    def norms(self) -> tuple[FrameBatchNorm2d, FrameBatchNorm2d]:
        """Return the norms of both halves.

        Raises:
            ValueError: a half was replaced by a module without one.
        """
        vh, hv = self.vh, self.hv
        try:
            return vh.norm, hv.norm
        except AttributeError as error:
            raise ValueError(
                f"vh and hv of FCC hold parameters and a norm, and cannot be replaced, but are {type(vh).__name__} and "
                f"{type(hv).__name__}; use torch.nn.utils.parametrize on kernel1 and the others instead"
            ) from error

    @staticmethod
    def _update_running(
        norms: tuple[FrameBatchNorm2d, FrameBatchNorm2d], mean: Tensor, var: Tensor, count: int | Tensor, triton: bool
    ) -> None:
        """Update the running statistics of both halves, group by group, from statistics `(G, C)` over `count` cells."""
        running = read_running(*norms) if triton else None
        if running:
            from mol_fast.kernels.fcc import fcc_running

            fcc_running(mean, var, running, norms[0].momentum, count)
        elif running is None:
            halves = mean.chunk(2, dim=1), var.chunk(2, dim=1)
            for norm, half_mean, half_var in zip(norms, *halves, strict=True):
                update_running(norm, half_mean, half_var, count, range(len(mean)))

    def _shared_statistics(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pool mean and biased variance `(G, C)` of maps plus first positions over all processes, differentiable.

        Also returns the number of cells behind each.
        """
        _check_groups(x, groups)
        exact = torch.promote_types(x.dtype, torch.float32)
        positions = self.vh.pos1.to(exact), self.hv.pos1.to(exact)
        statistics = batched_fcc.batch_statistics(x.to(exact), *positions, groups)
        return pool_statistics(*statistics, x[:, 0].numel() // groups)

    def _call_norms(self, x: Tensor, vh: Six, hv: Six, groups: int) -> Tensor:
        """Apply the layer with norms that are called, because one operator cannot stand for both.

        `vh` and `hv` are what a call of a branch returns.
        """
        if self.backend == "triton":
            raise RuntimeError(
                'backend="triton" does not call norms, but those of FCC have hooks, were replaced, or differ in their '
                'settings; use backend="auto" or "torch"'
            )
        _check_groups(x, groups)
        x = x.to(functional.compute_dtype(x))
        first, second = x.chunk(2, dim=1)
        z = [
            normalise(self.vh.norm, first + vh[1][:, :, None], range(groups)),
            normalise(self.hv.norm, second + hv[1][:, None, :], range(groups)),
        ]
        with functional.no_autocast(x):
            return batched_fcc.fcc_normalised(x, torch.cat(z, dim=1), vh, hv)

    def extra_repr(self) -> str:
        return f"{self.channels}, size={self.size}, backend={self.backend!r}"


class CCC(nn.Module):
    """Channel correspondence convolution with its residual, `(N, C, H, W) -> (N, C, H, W)` (F5C block, second part).

    The 1x1 convolution starts at zero, so the layer starts as the identity (variant "paper").

    The linear layers `node` and `edge` and the convolution `mix` are called once in a forward if they have hooks or
    were replaced (LoRA, quantisation, pruning), on PyTorch. Otherwise only their weights are read, which takes less
    time and memory. If they must be called, backend="triton" is an error.

    Args:
        channels: C.
        size: H = W, or (H, W).
        neighbors: k, the number of neighbours including the node itself; at most C ("paper") or H W ("official").
        variant: "paper" (nodes are channels, then a 1x1 convolution) or "official" (nodes are positions).
        backend: "auto", "torch" or "triton" (see `mol_fast.functional`).

    Raises:
        ValueError: the size, the variant or the number of neighbours is not possible.
    """

    def __init__(
        self, channels: int, size: Size, neighbors: int = 4, variant: str = "paper", backend: str = "auto"
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        check_choice("backend", backend, BACKENDS)
        self.channels, self.size, self.neighbors = channels, _pair(size), neighbors
        self.variant, self.backend = variant, backend
        positions = self.size[0] * self.size[1]
        nodes = channels if variant == "paper" else positions
        if not 1 <= neighbors <= nodes:
            raise ValueError(f"neighbors must be from 1 to the number of nodes, {nodes}, got {neighbors}")
        self.node = nn.Linear(positions, positions)
        self.edge = nn.Linear(positions, positions)
        self.mix = nn.Conv2d(channels, channels, 1) if variant == "paper" else None
        if self.mix is not None:
            for parameter in self.mix.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        _check_input(x, self.channels, self.size)
        linears = self.linears()
        if linears is None:
            return self._call_layers(x)
        return functional.ccc(x, *linears, k=self.neighbors, variant=self.variant, backend=self.backend)

    def linears(self) -> tuple[Tensor, ...] | None:
        """Return weights and biases of node, edge and mix (if there is one); None if the layers must be called."""
        node, edge = read_linear(self.node, nn.Linear), read_linear(self.edge, nn.Linear)
        mix = self.mix
        if (mix is None) == (self.variant == "paper"):
            raise ValueError(
                f'mix of CCC is {mix}, but variant "paper" needs a layer there (torch.nn.Identity() for none), and '
                'variant "official" needs None'
            )
        mixing = () if mix is None else read_linear(mix, nn.Conv2d)
        if node is None or edge is None or mixing is None:
            return None
        return *node, *edge, *(value.flatten(1) if value.dim() > 1 else value for value in mixing)

    def _call_layers(self, x: Tensor) -> Tensor:
        """Apply the layer with sub-layers that are called, because their weights do not say what they do."""
        if self.backend == "triton":
            raise RuntimeError(
                'backend="triton" does not call node, edge and mix of CCC, but one of them has hooks or was replaced; '
                'use backend="auto" or "torch"'
            )
        wanted = dtype = functional.compute_dtype(x)
        if any(callable(getattr(layer, "weight", None)) for layer in (self.node, self.edge)):
            dtype = torch.float32  # quantised layers have a method `weight`, and take nothing else
        x = x.to(dtype)
        # Layers in float32 take half-precision maps under autocast.
        half = dtype in (torch.float16, torch.bfloat16)
        with torch.autocast(x.device.type, dtype) if half else functional.no_autocast(x):
            if self.mix is None:
                y = batched_ccc.ccc_official_called(x, self.node, self.edge, self.neighbors)
            else:
                y = batched_ccc.ccc_paper_called(x, self.node, self.edge, self.mix, self.neighbors)
        return y.to(wanted)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, size={self.size}, neighbors={self.neighbors}, variant={self.variant!r}, "
            f"backend={self.backend!r}"
        )


class F5C(nn.Module):
    """The F5C block of the MOL paper: FCC, then CCC, `(N, C, H, W) -> (N, C, H, W)`.

    The block starts as the identity (variant "paper"). We measured that this trains faster than random kernels.

    On PyTorch, `torch.func` can transform it (grad, vmap, jacrev), and gradients can be differentiated again.
    Forward-mode derivatives (jvp, jacfwd) raise an error in training, and for variant "paper" with more than one
    neighbour. As with any batch normalisation in training, grad needs the buffers as arguments of the function, and
    vmap needs evaluation mode.

    Hooks, pruning, LoRA adapters, dynamic quantisation, and frozen or synchronised norms take effect on every part of
    the block (see FCC and CCC, and the table in `mol_fast/nn/README.md`).

    Args:
        channels: C, even.
        size: H = W, or (H, W).
        neighbors: k of CCC, the number of neighbours including the node itself.
        variant: "paper", or "official" for weights trained with the official code.
        backend: "auto" (Triton on a GPU, batched PyTorch elsewhere), "torch" or "triton".

    Raises:
        ValueError: an argument is not possible.

    Example:
        >>> F5C(128, 16)(torch.randn(2, 128, 16, 16)).shape
        torch.Size([2, 128, 16, 16])
    """

    def __init__(
        self, channels: int, size: Size, neighbors: int = 4, variant: str = "paper", backend: str = "auto"
    ) -> None:
        super().__init__()
        self.fcc = FCC(channels, size, backend=backend)
        self.ccc = CCC(channels, size, neighbors, variant, backend)

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """Apply the layer.

        Args:
            x: maps `(N, C, H, W)`.
            groups: number of frames of a clip in the batch (7 in the model). Map n belongs to frame n mod groups.
                Training normalises frame by frame.
        """
        y = self._at_once(x, groups)
        return self.ccc(self.fcc(x, groups)) if y is None else y

    def _at_once(self, x: Tensor, groups: int) -> Tensor | None:
        """Apply both layers in one step of the Triton kernels; None if they must be called one after the other.

        Compiled code gains nothing from that. Hooks on all modules count here: tools that measure would otherwise miss
        both layers.
        """
        fcc, ccc = self.fcc, self.ccc
        if torch.compiler.is_compiling() or _has_any_global_hook() or not (is_plain(fcc, FCC) and is_plain(ccc, CCC)):
            return None
        _check_input(x, fcc.channels, fcc.size)
        if not (fcc.backend == ccc.backend and use_triton(fcc.backend, x) and x.shape[0] and ccc.variant == "paper"):
            return None
        norms = fcc.norms()
        norm, scales, linears = norms[0], read_norms(*norms), ccc.linears()
        if scales is None or linears is None or norm.shares():
            return None
        training = norm.batch_statistics()
        statistics = read_running(*norms) if training else [*norms[0].running(), *norms[1].running()]
        if statistics is None:
            return None
        first, second = _read_branch(fcc.vh), _read_branch(fcc.hv)
        vh, hv = FCCBranch(*first, *scales[:2]), FCCBranch(*second, *scales[2:])
        from mol_fast.kernels import operators

        if not (one_backward((x, *vh, *hv), linears) and operators.ordinary((x, *vh, *hv, *linears, *statistics))):
            return None
        rest = groups if training else 1, norm.eps, norm.momentum or 0.0, ccc.neighbors, training
        return functional.f5c(x, vh, hv, linears, statistics, *rest)


def one_backward(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Return False if gradients are wanted of `second`, parameters of CCC, alone: its backward is enough then."""
    if not torch.is_grad_enabled() or any(value.requires_grad for value in first):
        return True
    return not any(value.requires_grad for value in second)


def _check_groups(x: Tensor, groups: int) -> None:
    if groups < 1 or x.shape[0] % groups:
        raise ValueError(f"groups must divide the number of maps, got groups={groups} for x of {tuple(x.shape)}")


def _check_input(x: Tensor, channels: int, size: tuple[int, int]) -> None:
    try:
        if x.shape[1:] == (channels, *size):
            return
    except TraceError as error:
        raise TraceError(
            "torch.fx cannot trace into the layers of F5C; let is_leaf_module of your tracer keep them whole, "
            "or use torch.export"
        ) from error
    raise ValueError(f"x must have shape (N, {channels}, {size[0]}, {size[1]}), got {tuple(x.shape)}")
