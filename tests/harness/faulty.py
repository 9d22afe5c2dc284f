"""Small Triton kernels with a fault each, and their counterparts without, for the sanitizer to tell apart."""

import triton
import triton.language as tl


@triton.jit
def copy(p_x, p_y, size, FIRST: tl.constexpr, B: tl.constexpr):
    """y = x, from element FIRST on, B elements to a program."""
    o = tl.program_id(0) * B + tl.arange(0, B) + FIRST
    tl.store(p_y + o, tl.load(p_x + o, mask=o < size), mask=o < size)


@triton.jit
def copy_without_load_mask(p_x, p_y, size, B: tl.constexpr):
    o = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(p_y + o, tl.load(p_x + o), mask=o < size)


@triton.jit
def copy_without_store_mask(p_x, p_y, size, B: tl.constexpr):
    o = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(p_y + o, tl.load(p_x + o, mask=o < size))


@triton.jit
def copy_by(p_x, p_y, distance, B: tl.constexpr):
    """y = x, where x is reached from y over the distance between the two."""
    o = tl.arange(0, B)
    tl.store(p_y + o, tl.load(p_y + distance + o))


@triton.jit
def overlapping(p_y, B: tl.constexpr):
    """Every program writes one element of its right neighbour."""
    tl.store(p_y + tl.program_id(0) * B + tl.arange(0, 2 * B), 1.0, mask=tl.arange(0, 2 * B) <= B)


@triton.jit
def read_left(p_y, B: tl.constexpr):
    """Every program but the first reads what its left neighbour, which runs before it, writes."""
    o = tl.program_id(0) * B + tl.arange(0, B)
    b = tl.load(p_y + o - B, mask=o >= B, other=0.0)
    tl.debug_barrier()
    tl.store(p_y + o, b + 1.0)


@triton.jit
def read_right(p_y, size, B: tl.constexpr):
    """Every program but the last reads what its right neighbour, which runs after it, writes."""
    o = tl.program_id(0) * B + tl.arange(0, B)
    b = tl.load(p_y + o + B, mask=o + B < size, other=0.0)
    tl.debug_barrier()
    tl.store(p_y + o, b + 1.0)


@triton.jit
def reverse(p_x, p_y, B: tl.constexpr, AFTER_STORE: tl.constexpr, AFTER_LOAD: tl.constexpr):
    """y = x + reversed x, by way of y."""
    o = tl.arange(0, B)
    b_x = tl.load(p_x + o)
    tl.store(p_y + o, b_x)
    if AFTER_STORE:
        tl.debug_barrier()
    b_y = tl.load(p_y + B - 1 - o)
    if AFTER_LOAD:
        tl.debug_barrier()
    tl.store(p_y + o, b_x + b_y)


@triton.jit
def write_twice(p_y, B: tl.constexpr, BARRIER: tl.constexpr):
    o = tl.arange(0, B)
    tl.store(p_y + o, 1.0)
    if BARRIER:
        tl.debug_barrier()
    tl.store(p_y + B - 1 - o, 2.0)


@triton.jit
def halves(p_y, B: tl.constexpr):
    """Two lanes for every element."""
    tl.store(p_y + tl.arange(0, B) // 2, 1.0)


@triton.jit
def count(p_y, B: tl.constexpr):
    tl.atomic_add(p_y + tl.arange(0, B), 1.0)
