"""The warps and iterations of TV-L1 on a CPU, pair by pair, compiled by numba. `tensors` computes the same.

Compiling takes seconds once per process; no file is kept. The arithmetic is IEEE float32, without fused or reordered
operations, so the bits of a pair depend neither on others nor on the width of the processor's vectors.

In memory, a border column follows every row of pixels, and a border row the last one. So a loop over all pixels is one
loop without special cases: the step to the right is 1, the step down is `pitch`. The dual q[n] lies on the edge that
leads into pixel n, from the left (q_xx, q_yx: of u_x, u_y) or from above (q_xy, q_yy).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast.tvl1.scheme import Scheme

Array = npt.NDArray[np.float32]

_MARGIN = 4  # repeated border pixels on the left and right of an image, as far as taps reach
_TAPS = 5  # along each axis: the 4 of a cubic, and 1 more for pixels whose places lie on both sides of a pixel
_jit: Any = numba.njit(nogil=True, error_model="numpy")
_index = np.uintp  # a signed index may be negative, which costs a branch and the vectors
_f32 = np.float32  # a plain 1.0 would make the arithmetic float64
_CUBIC = _f32(-0.75)  # parameter of the cubic convolution, that of `grid_sample`


def refine(u: Tensor, previous: Tensor, stack: Tensor, scheme: Scheme) -> Tensor:
    """Run all warps of a level, on as many threads as PyTorch uses: see `tensors.refine`."""
    padded = F.pad(stack, (_MARGIN, _MARGIN, 0, 0), mode="replicate")
    pairs = zip(u.numpy(), previous[:, 0].numpy(), padded.numpy(), strict=True)
    threads = min(len(u), torch.get_num_threads())
    if threads == 1:
        refined = [_refine_pair(pair, scheme) for pair in pairs]
    else:
        with ThreadPoolExecutor(threads) as pool:
            refined = list(pool.map(lambda pair: _refine_pair(pair, scheme), pairs))
    return torch.from_numpy(np.stack(refined))


def _refine_pair(pair: tuple[Array, Array, Array], scheme: Scheme) -> Array:
    """Run all warps of a level. The dual variable is kept between warps."""
    flow, previous, stack = pair
    height, width = previous.shape
    u, q = np.zeros((2, height + 1, width + 1), _f32), np.zeros((4, height + 1, width + 1), _f32)
    warped, data = np.zeros((3, height, width + 1), _f32), np.empty((4, height * (width + 1)), _f32)
    target = np.zeros((height, width + 1), _f32)
    u[:, :-1, :-1], target[:, :-1] = flow, previous
    reach, tau, damping = _f32(scheme.reach), _f32(scheme.tau), _f32(scheme.damping)
    for _ in range(scheme.warps):
        _warp(warped, u, stack)
        _linearise(*data, *u.reshape(2, -1), target.ravel(), *warped.reshape(3, -1), reach)
        _iterate(*u.reshape(2, -1), *q.reshape(4, -1), *data, height, scheme.iterations, tau, damping)
    return u[:, :-1, :-1]


@_jit
def _warp(warped: Array, u: Array, stack: Array) -> None:
    """Sample the image and its gradient at x + u, bicubic; outside, border pixels are repeated.

    A row is divided into stretches whose pixels read from the same five rows and, relative to themselves, columns. The
    one tap too many has weight 0. So taps are read side by side instead of one by one.

    Args:
        warped: (3, H, W + 1), the result; the border column is left alone.
        u: flow (2, H + 1, W + 1).
        stack: (3, H, W + 2 _MARGIN).
    """
    one, next = _f32(1), _index(1)
    height, width = _index(warped.shape[1]), _index(warped.shape[2]) - next
    below, behind = _f32(height), _f32(width)
    floors, parts = np.empty((2, width), _f32), np.empty((2, width), _f32)  # of the place along x, and along y
    taps = np.empty((2, _TAPS, width), _f32)
    rows = np.empty(_TAPS, np.uintp)
    for i in range(height):
        for j in range(width):
            x, y = _f32(j) + u[0, i, j], _f32(i) + u[1, i, j]
            x, y = x if x > -one else -one, y if y > -one else -one  # from here on, all is border
            x, y = x if x < behind else behind, y if y < below else below
            left, top = _f32(math.floor(x)), _f32(math.floor(y))
            parts[0, j], parts[1, j] = x - left, y - top
            floors[0, j], floors[1, j] = left - _f32(j), top
        start = _index(0)
        while start < width:
            stop, left, top = _stretch(floors, start)
            _weigh(taps, floors, parts, start, stop, left, top)
            for k in range(_TAPS):
                rows[k] = min(max(int(top) - 1 + k, 0), int(height) - 1)
            _sample(warped, i, taps, stack, rows, start, stop, _index(int(left) - 1 + _MARGIN))
            start = stop


@_jit
def _stretch(floors: Array, start: Any) -> Any:
    """Return where the stretch ends, and the least floors of its places along x and y. Others are larger by 1."""
    one, width = _f32(1), _index(floors.shape[1])
    left = right = floors[0, start]
    top = bottom = floors[1, start]
    for j in range(start + _index(1), width):
        x, y = floors[0, j], floors[1, j]
        lower_x, lower_y = min(left, x), min(top, y)
        right, bottom = max(right, x), max(bottom, y)
        if right - lower_x > one or bottom - lower_y > one:
            return j, left, top
        left, top = lower_x, lower_y
    return width, left, top


@_jit
def _weigh(taps: Array, floors: Array, parts: Array, start: Any, stop: Any, left: Any, top: Any) -> None:
    """Set the weights of the taps by cubic convolution (Keys, 1981)."""
    one, two, three = _f32(1), _f32(2), _f32(3)
    for axis in range(_index(2)):
        least = top if axis else left
        for n in range(start, stop):
            t = parts[axis, n]
            s = one - t
            before, after = one + t, one + s
            a = ((_CUBIC * before - _f32(5) * _CUBIC) * before + _f32(8) * _CUBIC) * before - _f32(4) * _CUBIC
            b = ((_CUBIC + two) * t - (_CUBIC + three)) * t * t + one
            c = ((_CUBIC + two) * s - (_CUBIC + three)) * s * s + one
            d = ((_CUBIC * after - _f32(5) * _CUBIC) * after + _f32(8) * _CUBIC) * after - _f32(4) * _CUBIC
            later = floors[axis, n] - least  # 0 or 1
            now = one - later
            taps[axis, 0, n] = now * a
            taps[axis, 1, n] = now * b + later * a
            taps[axis, 2, n] = now * c + later * b
            taps[axis, 3, n] = now * d + later * c
            taps[axis, 4, n] = later * d


@_jit
def _sample(
    warped: Array, i: Any, taps: Array, stack: Array, rows: npt.NDArray[np.uintp], start: Any, stop: Any, shift: Any
) -> None:
    """Set the pixels start..stop of row i: tap k is in row rows[k], tap 0 in the column of the pixel + `shift`."""
    r0, r1, r2, r3, r4 = rows[0], rows[1], rows[2], rows[3], rows[4]
    for c in range(_index(stack.shape[0])):
        for n in range(start, stop):
            j0 = n + shift
            j1, j2, j3, j4 = j0 + _index(1), j0 + _index(2), j0 + _index(3), j0 + _index(4)
            w0, w1, w2, w3, w4 = taps[0, 0, n], taps[0, 1, n], taps[0, 2, n], taps[0, 3, n], taps[0, 4, n]
            s0 = w0 * stack[c, r0, j0] + w1 * stack[c, r0, j1] + w2 * stack[c, r0, j2] + w3 * stack[c, r0, j3]
            s1 = w0 * stack[c, r1, j0] + w1 * stack[c, r1, j1] + w2 * stack[c, r1, j2] + w3 * stack[c, r1, j3]
            s2 = w0 * stack[c, r2, j0] + w1 * stack[c, r2, j1] + w2 * stack[c, r2, j2] + w3 * stack[c, r2, j3]
            s3 = w0 * stack[c, r3, j0] + w1 * stack[c, r3, j1] + w2 * stack[c, r3, j2] + w3 * stack[c, r3, j3]
            s4 = w0 * stack[c, r4, j0] + w1 * stack[c, r4, j1] + w2 * stack[c, r4, j2] + w3 * stack[c, r4, j3]
            s0, s1, s2 = s0 + w4 * stack[c, r0, j4], s1 + w4 * stack[c, r1, j4], s2 + w4 * stack[c, r2, j4]
            s3, s4 = s3 + w4 * stack[c, r3, j4], s4 + w4 * stack[c, r4, j4]
            h0, h1, h2, h3, h4 = taps[1, 0, n], taps[1, 1, n], taps[1, 2, n], taps[1, 3, n], taps[1, 4, n]
            warped[c, i, n] = h0 * s0 + h1 * s1 + h2 * s2 + h3 * s3 + h4 * s4


@_jit
def _linearise(
    pull_x: Array, pull_y: Array, offset: Array, slope: Array, u_x: Array, u_y: Array, previous: Array,
    image: Array, g_x: Array, g_y: Array, reach: Any,
) -> None:  # fmt: skip
    """Linearise the difference in grey levels around u. On the border column all is 0, but the slope.

    Thresholding gives v = u + pull * clamp(offset + slope pull . u).
    """
    least = _f32(1e-9)
    for n in range(_index(offset.size)):
        bound = reach * (g_x[n] * g_x[n] + g_y[n] * g_y[n])
        scale = _f32(-1) / (bound if bound > least else least)  # if g is 0, so is `pull`
        pull_x[n], pull_y[n] = reach * g_x[n], reach * g_y[n]
        offset[n] = (image[n] - g_x[n] * u_x[n] - g_y[n] * u_y[n] - previous[n]) * scale
        slope[n] = scale / reach


@_jit
def _iterate(
    u_x: Array, u_y: Array, q_xx: Array, q_xy: Array, q_yx: Array, q_yy: Array,
    pull_x: Array, pull_y: Array, offset: Array, slope: Array, height: Any, iterations: Any, tau: Any, damping: Any,
) -> None:  # fmt: skip
    """Iterate in place: v, then u = v + div q, then q = (q + tau grad u) / (1 + damping |grad u|)."""
    one, zero, next = _f32(1), _f32(0), _index(1)
    size, pitch = _index(offset.size), _index(offset.size // height)
    for _ in range(iterations):
        for n in range(size):
            right, down = n + next, n + pitch
            step = offset[n] + slope[n] * (pull_x[n] * u_x[n] + pull_y[n] * u_y[n])
            step = -one if step < -one else step
            step = one if step > one else step
            u_x[n] += pull_x[n] * step + (q_xx[right] - q_xx[n]) + (q_xy[down] - q_xy[n])
            u_y[n] += pull_y[n] * step + (q_yx[right] - q_yx[n]) + (q_yy[down] - q_yy[n])
        for u, q_x, q_y in ((u_x, q_xx, q_xy), (u_y, q_yx, q_yy)):
            for end in range(pitch - next, size, pitch):
                u[end] = u[end - next]  # the gradient is 0 on the right border
            for n in range(pitch):
                u[size + n] = u[size - pitch + n]  # and on the lower one
            for n in range(size):
                right, down = n + next, n + pitch
                d_x, d_y = u[right] - u[n], u[down] - u[n]
                factor = one / (one + damping * math.sqrt(d_x * d_x + d_y * d_y))
                q_x[right] = (q_x[right] + tau * d_x) * factor
                q_y[down] = (q_y[down] + tau * d_y) * factor
            for start in range(pitch, size + next, pitch):
                q_x[start] = zero  # no edge leads from a border pixel into the next row
