"""The layers FCC, CCC and F5C as modules."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mol_fast import functional
from mol_fast.functional import BACKENDS, VARIANTS, FCCBranch, check_choice, use_triton
from mol_fast.nn.norm import FrameBatchNorm2d, update_running
from mol_fast.nn.sync import pool_statistics
from mol_fast.ops import fcc as batched_fcc

__all__ = ["CCC", "F5C", "FCC"]

Size = int | tuple[int, int]


def _pair(size: Size) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"size must be a positive number or (height, width), got {size}")
    return pair


class _Branch(nn.Module):
    """Parameters of one FCC branch with c channels: convolutions of length L1, then L2."""

    def __init__(self, channels: int, length1: int, length2: int) -> None:
        super().__init__()
        self.norm = FrameBatchNorm2d(channels)
        self.kernel1 = nn.Parameter(torch.randn(channels, length1) * length1**-0.5)
        self.pos1 = nn.Parameter(torch.randn(channels, length1) * 0.02)
        self.bias1 = nn.Parameter(torch.zeros(channels))
        self.kernel2 = nn.Parameter(torch.zeros(channels, length2))
        self.pos2 = nn.Parameter(torch.randn(channels, length2) * 0.02)
        self.bias2 = nn.Parameter(torch.zeros(channels))

    def tensors(self) -> FCCBranch:
        norm = self.norm
        return FCCBranch(
            self.kernel1, self.pos1, self.bias1, self.kernel2, self.pos2, self.bias2, norm.weight, norm.bias
        )


class FCC(nn.Module):
    """Fully-connected convolution with its residual, `(N, C, H, W) -> (N, C, H, W)` (MOL paper, F5C block, first part).

    Adds learned positions and applies batch normalisation. Then half of the channels goes through a vertical, then a
    horizontal circular depthwise convolution. The other half goes through the horizontal one first. Each kernel is as
    long as the map in its direction. The second
    kernels start at zero, so the layer starts as the identity.

    If `synchronised` (see `mol_fast.nn.sync`), training uses the statistics of the batches of all processes, which
    must have the same size. In this mode the layer runs on PyTorch: the Triton kernels have no gradient for
    statistics that are passed in.

    Args:
        channels: C, even.
        size: H = W, or (H, W).
        backend: "auto", "torch" or "triton" (see `mol_fast.functional`).

    Raises:
        ValueError: the size or the number of channels is not possible.
    """

    synchronised = False

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
        branches = self.vh, self.hv
        vh, hv = (branch.tensors() for branch in branches)
        norms = branches[0].norm, branches[1].norm
        eps = norms[0].eps
        if not self.training:
            mean, var = map(torch.cat, zip(*(norm.running() for norm in norms), strict=True))
            return functional.fcc(x, vh, hv, mean=mean, var=var, eps=eps, backend=self.backend)[0]
        shared = self.synchronised and x.shape[0] > 0
        given = dict(zip(("mean", "var"), self._shared_statistics(x, groups), strict=True)) if shared else {}
        backend = "torch" if shared else self.backend
        y, mean, var = functional.fcc(x, vh, hv, **given, groups=groups, eps=eps, backend=backend)
        if x.shape[0]:
            count = x.shape[0] * x.shape[2] * x.shape[3] // groups * (dist.get_world_size() if shared else 1)
            self._update_running(norms, mean.detach(), var.detach(), count, use_triton(backend, x))
        return y

    @staticmethod
    def _update_running(
        norms: tuple[FrameBatchNorm2d, FrameBatchNorm2d], mean: Tensor, var: Tensor, count: int, triton: bool
    ) -> None:
        """Update the running statistics of both halves, group by group, from statistics `(G, C)` over `count` cells."""
        vh, hv = norms
        assert vh.num_batches_tracked is not None
        assert hv.num_batches_tracked is not None
        running = [*vh.running(), *hv.running(), vh.num_batches_tracked, hv.num_batches_tracked]
        if triton and vh.momentum == hv.momentum and all(map(Tensor.is_contiguous, running)):
            from mol_fast.kernels.fcc import fcc_running

            fcc_running(mean, var, running, vh.momentum, count)
            return
        halves = zip(norms, mean.chunk(2, dim=1), var.chunk(2, dim=1), strict=True)
        for norm, half_mean, half_var in halves:
            update_running(norm, half_mean, half_var, count, range(len(mean)))

    def _shared_statistics(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance `(G, C)` of maps plus first positions over all processes, differentiable."""
        exact = torch.promote_types(x.dtype, torch.float32)
        positions = self.vh.pos1.to(exact), self.hv.pos1.to(exact)
        return pool_statistics(*batched_fcc.batch_statistics(x.to(exact), *positions, groups))

    def extra_repr(self) -> str:
        return f"{self.channels}, size={self.size}, backend={self.backend!r}"


class CCC(nn.Module):
    """Channel correspondence convolution with its residual, `(N, C, H, W) -> (N, C, H, W)` (F5C block, second part).

    The 1x1 convolution starts at zero, so the layer starts as the identity (variant "paper").

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
        node, edge, mix = self.node, self.edge, self.mix
        mixing = (None, None) if mix is None else (mix.weight.flatten(1), mix.bias)
        linears = (node.weight, node.bias, edge.weight, edge.bias)
        return functional.ccc(x, *linears, *mixing, k=self.neighbors, variant=self.variant, backend=self.backend)

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
        return self.ccc(self.fcc(x, groups))


def _check_input(x: Tensor, channels: int, size: tuple[int, int]) -> None:
    if x.shape[1:] != (channels, *size):
        raise ValueError(f"x must have shape (N, {channels}, {size[0]}, {size[1]}), got {tuple(x.shape)}")
