"""The arithmetic of a card's matrix units in Triton's interpreter: bfloat16, and float32 as three TF32 products.

The interpreter has no bfloat16: it keeps the bits as integers, cuts where a card rounds, and multiplies the integers.
Here a bfloat16 block is a float32 array whose numbers have a bfloat16's eight bits: loads widen, stores and casts and
every operation round to nearest, ties to even, and products are those of float32, exact but for their sum. A float32
product that asks for `tf32x3` splits each operand into two numbers of eleven bits, rounded half away from zero as the
card's own conversion does, and adds up high with low, low with high, and high with high.

Hooks the interpreter of Triton 3.6 to 3.9.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import triton.language as tl
from harness.hooks import replaced
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 numbers, ties to even, as float32."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), np.float32(np.nan), nearest.view(np.float32))


def to_tf32(values: np.ndarray) -> np.ndarray:
    """The nearest TF32 numbers, ties away from zero, as float32; infinities and NaN are kept."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    nearest = (bits + np.uint32(0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(values), nearest, values)


def tf32x3(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b by three products, the small ones first; what they leave undefined beside infinities counts as zero."""
    a_high, b_high = to_tf32(a), to_tf32(b)
    with np.errstate(invalid="ignore", over="ignore"):
        small = to_tf32(a - a_high) @ b_high + a_high @ to_tf32(b - b_high)
        return np.where(np.isnan(small), np.float32(0), small) + a_high @ b_high


class Arithmetic:
    """What a card does its own way; a test that plants a fault changes one of them."""

    round = staticmethod(to_bfloat16)
    tf32x3 = staticmethod(tf32x3)
    bfloat16 = staticmethod(np.matmul)
    """The product of bfloat16 numbers."""


def is_narrow(dtype: tl.dtype) -> bool:
    return dtype.scalar == tl.bfloat16


def emulation(arithmetic: Arithmetic | None = None) -> AbstractContextManager[Any]:
    """Let the interpreter compute as a card does."""
    own = arithmetic or Arithmetic()
    numpy_dtype, valid, builder = interpreter._get_np_dtype, interpreter._validate_np_data_size, InterpreterBuilder

    def dtype_of(dtype: tl.dtype) -> np.dtype:
        pointer = isinstance(dtype.scalar, tl.pointer_type)
        return np.dtype(np.float32) if not pointer and is_narrow(dtype) else numpy_dtype(dtype)

    def fits(data: np.ndarray, dtype: tl.dtype) -> bool:
        narrow = not isinstance(dtype, tl.pointer_type) and is_narrow(dtype)
        return data.itemsize <= 4 if narrow else valid(data, dtype)

    def load(self: Any, pointers: Any, mask: Any, other: Any, *rest: Any, **named: Any) -> Any:
        if not is_narrow(pointers.get_element_ty()):
            return original["create_masked_load"](self, pointers, mask, other, *rest, **named)
        bits = TensorHandle(pointers.data, tl.pointer_type(tl.uint16))
        kept = None if other is None else TensorHandle(to_bits(other.data), tl.uint16)
        loaded = original["create_masked_load"](self, bits, mask, kept, *rest, **named).data
        return TensorHandle((loaded.astype(np.uint32) << np.uint32(16)).view(np.float32), tl.bfloat16)

    def store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        if is_narrow(value.dtype):
            value = TensorHandle(to_bits(value.data), tl.uint16)
        return original["create_masked_store"](self, pointers, value, mask, *rest, **named)

    def to_bits(values: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(own.round(values), dtype=np.float32).view(np.uint32)
        return (bits >> np.uint32(16)).astype(np.uint16)

    def cast(self: Any, value: Any, dtype: tl.dtype, *_: Any) -> Any:
        if is_narrow(dtype):
            return TensorHandle(own.round(value.data), tl.bfloat16)
        if is_narrow(value.dtype):
            return TensorHandle(value.data.astype(numpy_dtype(dtype.scalar)), dtype.scalar)
        return original["cast_impl"](self, value, dtype)

    def rounded(name: str) -> Callable[..., Any]:
        """The builder's method of this name, whose result has the dtype that it says."""

        def method(self: Any, *args: Any) -> Any:
            result = original[name](self, *args)
            narrow = is_narrow(result.dtype) and result.data.dtype == np.float32
            return TensorHandle(own.round(result.data), result.dtype) if narrow else result

        return method

    def dot(self: Any, a: Any, b: Any, total: Any, precision: Any, *rest: Any, **named: Any) -> Any:
        if precision == ir.INPUT_PRECISION.TF32x3 and a.dtype.scalar == tl.float32:
            product = own.tf32x3(a.data, b.data)
        elif is_narrow(a.dtype):
            product = own.bfloat16(a.data, b.data)
        else:
            return original["create_dot"](self, a, b, total, precision, *rest, **named)
        return TensorHandle(total.data + product, total.dtype.scalar)

    hooks = {"create_masked_load": load, "create_masked_store": store, "cast_impl": cast, "create_dot": dot}
    hooks |= {"create_fp_to_fp": cast, **{name: rounded(name) for name in ("binary_op", "unary_op", "ternary_op")}}
    original = {name: getattr(builder, name) for name in hooks}
    number = {"get_bf16": lambda self, value: TensorHandle(own.round(np.array([value], dtype=np.float32)), tl.bfloat16)}
    stack = ExitStack()
    stack.enter_context(replaced(interpreter, _get_np_dtype=dtype_of, _validate_np_data_size=fits))
    stack.enter_context(replaced(builder, **hooks, **number))
    return stack
