"""The shadow of the memory that a launch touches: for every element, who wrote it and who read it, and when.

A program of a launch runs beside all others, in any order, so that whatever one writes no other may read or write.
Within a program the lanes of a block meet only at barriers: an epoch lasts from one barrier to the next, and what the
program writes in an epoch it may read or write again only in a later one. The arrays are indexed by the byte offset of
an element in its storage.
"""

import enum

import numpy as np
import torch
from torch import Tensor

FILLING = 0xFF
"""Every byte of memory that nobody has written: NaN in any floating dtype, -1 in integers."""


class Kind(enum.Enum):
    """The kinds of faults."""

    OUT_OF_BOUNDS = "accesses what is no element of the argument"
    UNINITIALISED = "reads what nothing has written"
    WRITE_RACE = "writes what another program writes"
    READ_RACE = "reads what another program writes"
    UNORDERED_READ = "reads what it wrote, without a barrier between"
    UNORDERED_WRITE = "writes what it read, without a barrier between"
    UNORDERED_WRITES = "writes twice, without a barrier between"
    ONE_ADDRESS = "stores several lanes at one address"
    NEVER_WRITTEN = "leaves elements that nothing has written"


def elements(tensor: Tensor) -> np.ndarray:
    """For every byte of the storage of `tensor`, whether an element of it begins there."""
    begins = torch.zeros(tensor.untyped_storage().nbytes(), dtype=torch.bool)
    size = tensor.element_size()
    strides = [stride * size for stride in tensor.stride()]
    begins.as_strided(tensor.shape, strides, tensor.storage_offset() * size).fill_(True)
    return begins.numpy()


class Accesses:
    """Who wrote and who read the elements of one storage, in one launch. A program or an epoch is -1 for none."""

    def __init__(self, size: int) -> None:
        self.writer, self.written, self.reader, self.read = (np.full(size, -1, dtype=np.int32) for _ in range(4))
        self.shared = np.zeros(size, dtype=bool)
        """Whether several programs have read it."""

    def load(self, at: np.ndarray, program: int, epoch: int) -> set[Kind]:
        """The faults of a read of the elements `at`."""
        writer, reader, faults = self.writer[at], self.reader[at], set()
        if np.any((writer >= 0) & (writer != program)):
            faults.add(Kind.READ_RACE)
        if np.any((writer == program) & (self.written[at] == epoch)):
            faults.add(Kind.UNORDERED_READ)
        self.shared[at] |= (reader >= 0) & (reader != program)
        self.reader[at], self.read[at] = program, epoch
        return faults

    def store(self, at: np.ndarray, program: int, epoch: int) -> set[Kind]:
        """The faults of a write of the elements `at`."""
        writer, reader, faults = self.writer[at], self.reader[at], set()
        if np.any((writer >= 0) & (writer != program)):
            faults.add(Kind.WRITE_RACE)
        if np.any(self.shared[at] | (reader >= 0) & (reader != program)):
            faults.add(Kind.READ_RACE)
        if np.any((reader == program) & (self.read[at] == epoch)):
            faults.add(Kind.UNORDERED_WRITE)
        if np.any((writer == program) & (self.written[at] == epoch)):
            faults.add(Kind.UNORDERED_WRITES)
        if len(np.unique(at)) < len(at):
            faults.add(Kind.ONE_ADDRESS)
        self.writer[at], self.written[at] = program, epoch
        return faults


class Fresh:
    """A storage that was allocated without values, and which of its bytes have got one since."""

    def __init__(self, tensor: Tensor) -> None:
        self.bytes = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())  # also keeps it from being reused
        self.bytes.fill_(FILLING)
        self.known = np.zeros(self.bytes.numel(), dtype=bool)

    def look(self) -> None:
        """Take note of what PyTorch has written."""
        self.known |= self.bytes.numpy() != FILLING

    def write(self, at: np.ndarray, size: int) -> None:
        """A kernel has written the elements of `size` bytes `at`."""
        for byte in range(size):
            self.known[at + byte] = True

    def lacks(self, at: np.ndarray, size: int) -> bool:
        """Whether one of the elements `at` is as it was filled; a single byte may have that value."""
        return not np.logical_or.reduce([self.known[at + byte] for byte in range(size)]).all()
