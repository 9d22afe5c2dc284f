"""A sanitizer for Triton kernels in Triton's interpreter.

    with Sanitizer() as sanitizer:
        kernel[grid](x, y)
    assert not sanitizer.faults, sanitizer.report()

The interpreter runs one program after the other, and its loads and stores reach any address: on a card, races and
accesses out of bounds would show as wrong numbers, sometimes. Here every load and store of a launch is checked against
a shadow of the memory (`shadow.py`), which has found a fault whenever some order of the programs could have shown it.

- A pointer knows its argument: the sanitizer counts the tensors of a launch in the upper 16 bits of their addresses,
  which no address in user space needs and pointer arithmetic leaves alone. So an access is out of bounds unless it
  meets an element of the argument it started from, even where it meets another argument, or the gap between two
  elements of a strided one. Such lanes are masked out.
- Memory of `torch.empty` is filled with a pattern. What neither a kernel nor PyTorch has written since is
  uninitialised: no kernel may read it, and at the end none of an argument may be left, but for those named in `spare`.
- Atomics, which the kernels do without, raise NotImplementedError.

Hooks the interpreter of Triton 3.6 to 3.9.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import triton
import triton.language as tl
from harness.hooks import replaced
from harness.shadow import Accesses, Fresh, Kind, elements
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

ADDRESS_BITS = np.uint64(48)
ADDRESS = np.uint64(2**48 - 1)


class Fault(NamedTuple):
    kind: Kind
    kernel: str
    argument: str
    place: str
    """File and line of the kernel, or "at the end"."""

    def __str__(self) -> str:
        return f"{self.kernel} {self.kind.value}: {self.argument} ({self.place})"


class Argument:
    """A tensor of a launch, and the accesses to its storage, which other arguments may share."""

    def __init__(self, name: str, tensor: Tensor, accesses: Accesses, fresh: Fresh | None) -> None:
        self.name, self.tensor, self.accesses, self.fresh = name, tensor, accesses, fresh
        self.start = tensor.untyped_storage().data_ptr()
        self.begins = elements(tensor)
        self.size = tensor.element_size()

    def is_at(self, tensor: Tensor) -> bool:
        """Whether `tensor` is this one, or the interpreter's own view of it."""
        views = [(t.data_ptr(), t.shape, t.stride(), t.dtype) for t in (self.tensor, tensor)]
        return views[0] == views[1]


class Sanitizer:
    """Checks every launch in its context.

    Args:
        spare: arguments that may keep elements which nothing has written.
    """

    def __init__(self, spare: Collection[str] = ()) -> None:
        self.spare = spare
        self.faults: Counter[Fault] = Counter()
        self.kernels: set[str] = set()
        """The names of the kernels that were launched."""
        self.fresh: dict[int, Fresh] = {}
        """By the address of the storage."""
        self.buffers: dict[tuple[str, str, int], Argument] = {}
        """Arguments in fresh memory, for the end."""
        self.kernel = ""
        self.arguments: list[Argument] = []
        self.numbered: set[int] = set()
        self.program = self.epoch = 0
        self.hooks = ExitStack()

    @property
    def kinds(self) -> set[Kind]:
        return {fault.kind for fault in self.faults}

    def report(self) -> str:
        return "\n".join(f"{count} x {fault}" for fault, count in self.faults.items())

    def __enter__(self) -> Self:
        builder = {name: self.hook(name) for name in ("set_grid_idx", "create_barrier")}
        builder |= {name: self.hook(name) for name in ("create_masked_load", "create_masked_store")}
        builder |= dict.fromkeys(("create_atomic_rmw", "create_atomic_cas"), refuse)
        self.hooks.enter_context(replaced(InterpreterBuilder, **builder))
        self.hooks.enter_context(replaced(GridExecutor, __call__=self.launching(GridExecutor.__call__)))
        self.hooks.enter_context(replaced(interpreter, _implicit_cvt=self.numbering(interpreter._implicit_cvt)))
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            self.hooks.enter_context(replaced(owner, **{name: self.allocating(getattr(owner, name))}))
        return self

    def __exit__(self, *failure: object) -> None:
        self.hooks.close()
        for (kernel, name, _), argument in self.buffers.items():
            assert argument.fresh is not None
            argument.fresh.look()
            if name not in self.spare and argument.fresh.lacks(np.flatnonzero(argument.begins), argument.size):
                self.faults[Fault(Kind.NEVER_WRITTEN, kernel, name, "at the end")] += 1

    def hook(self, name: str) -> Callable[..., Any]:
        """The builder's method `name`, preceded by the method of this class of that name."""
        own, original = getattr(self, name), getattr(InterpreterBuilder, name)
        return lambda builder, *args, **named: original(builder, *own(builder, *args), **named)

    def allocating(self, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`make`, which allocates a tensor without values, with note of it."""

        def allocate(*args: Any, **kwargs: Any) -> Tensor:
            tensor = make(*args, **kwargs)
            if type(tensor) is Tensor and tensor.device.type == "cpu" and tensor.numel():  # not without memory
                self.fresh[tensor.untyped_storage().data_ptr()] = Fresh(tensor)
            return tensor

        return allocate

    def launching(self, launch: Callable[..., None]) -> Callable[..., None]:
        """`launch`, a call of a kernel on a grid, with shadows of its tensors."""

        def run(executor: Any, *args: Any, **kwargs: Any) -> None:
            named = {**dict(zip(executor.arg_names, args, strict=False)), **kwargs}
            self.begin(executor.fn.__name__, {n: t for n, t in named.items() if isinstance(t, Tensor) and t.numel()})
            launch(executor, *args, **kwargs)

        return run

    def begin(self, kernel: str, tensors: dict[str, Tensor]) -> None:
        self.kernel = kernel
        self.kernels.add(kernel)
        for fresh in self.fresh.values():
            fresh.look()
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
        accesses = {address: Accesses(size) for address, size in storages.items()}
        self.arguments = []
        self.numbered = set()
        for name, tensor in tensors.items():
            address = tensor.untyped_storage().data_ptr()
            argument = Argument(name, tensor, accesses[address], self.fresh.get(address))
            self.arguments.append(argument)
            if argument.fresh is not None:
                self.buffers[kernel, name, tensor.data_ptr()] = argument

    def numbering(self, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`convert`, which makes a value of the interpreter of an argument, with the number of a tensor in its
        pointer. Two arguments of one tensor are told apart by their order."""

        def numbered(value: Any) -> Any:
            converted = convert(value)
            if isinstance(value, Tensor) and value.numel():
                matches = [i for i, argument in enumerate(self.arguments) if argument.is_at(value)]
                number = next((i for i in matches if i not in self.numbered), matches[0])
                self.numbered.add(number)
                converted.handle.data = converted.handle.data | np.uint64(number) << ADDRESS_BITS
            return converted

        return numbered

    def set_grid_idx(self, builder: Any, x: int, y: int, z: int) -> tuple[int, int, int]:
        """A program begins."""
        _, ny, nz = builder.grid_dim
        self.program, self.epoch = (x * ny + y) * nz + z, 0
        return x, y, z

    def create_barrier(self, builder: Any, *args: Any) -> tuple[Any, ...]:
        self.epoch += 1
        return args

    def create_masked_load(self, builder: Any, pointers: Any, mask: Any, *rest: Any) -> tuple[Any, ...]:
        """Check a load; its arguments with plain addresses, and with a mask of those within bounds."""
        inside, parts = self.split(pointers, mask)
        for argument, at in parts:
            faults = argument.accesses.load(at, self.program, self.epoch)
            if argument.fresh is not None and argument.fresh.lacks(at, argument.size):
                faults.add(Kind.UNINITIALISED)
            self.note(faults, argument)
        return TensorHandle(pointers.data & ADDRESS, pointers.dtype), TensorHandle(inside, tl.int1), *rest

    def create_masked_store(self, builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> tuple[Any, ...]:
        """Check a store; its arguments with plain addresses, and with a mask of those within bounds."""
        inside, parts = self.split(pointers, mask)
        for argument, at in parts:
            self.note(argument.accesses.store(at, self.program, self.epoch), argument)
            if argument.fresh is not None:
                argument.fresh.write(at, argument.size)
        return TensorHandle(pointers.data & ADDRESS, pointers.dtype), value, TensorHandle(inside, tl.int1), *rest

    def split(self, pointers: Any, mask: Any) -> tuple[np.ndarray, list[tuple[Argument, np.ndarray]]]:
        """The mask of the accesses within bounds, and for each argument the byte offsets of those in its storage."""
        inside = np.array(np.broadcast_to(np.asarray(mask.data), pointers.data.shape), dtype=bool)
        numbers, parts = pointers.data >> ADDRESS_BITS, []
        for number in np.unique(numbers[inside]):
            argument = self.arguments[int(number)]
            mine = inside & (numbers == number)
            at = (pointers.data & ADDRESS).astype(np.int64) - argument.start
            good = mine & (at >= 0) & (at < len(argument.begins))
            good[good] = argument.begins[at[good]]
            if (mine & ~good).any():
                self.note({Kind.OUT_OF_BOUNDS}, argument)
                inside &= good | ~mine
            parts.append((argument, at[good]))
        return inside, parts

    def note(self, kinds: set[Kind], argument: Argument) -> None:
        for kind in kinds:
            self.faults[Fault(kind, self.kernel, argument.name, line_of_kernel())] += 1


def refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError("the sanitizer does not know atomics; say what is allowed between programs first")


def line_of_kernel() -> str:
    """Where the innermost function of a kernel is now, below the frames of Triton and of this file."""
    ours = (str(Path(triton.__file__).parent), __file__)
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?"
