"""Several processes in one run: each trains folds of its own, or all split the batches of one fold after the other.

Processes are told apart by the variables RANK and WORLD_SIZE, as torchrun sets them, or whoever starts independent
jobs (a SLURM array). Only those of torchrun (MASTER_ADDR is set) can talk to each other; independent jobs share folds,
too, and the one that ends last puts the scores together.
"""

import gc
import json
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mol_fast.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import rank, world_size

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.distributed import Store

PATIENCE = timedelta(days=14)
"""How long processes wait for each other: folds take their time."""

T = TypeVar("T")


def splits_batches(settings: TrainSettings) -> bool:
    """Whether the processes of this run work on one fold together."""
    return settings.parallel == "batch" and world_size() > 1


def check_processes(settings: TrainSettings) -> None:
    """Raise UserError where the processes cannot do what `settings` asks for."""
    count = world_size()
    if not 0 <= rank() < count:
        raise UserError(f"RANK is {rank()} where WORLD_SIZE is {count}: it must be from 0 to {count - 1}")
    if count > 1 and settings.name is None:
        raise UserError(f"{count} processes need one folder for their run: give --name")
    if not splits_batches(settings):
        return
    if "MASTER_ADDR" not in os.environ:
        raise UserError("--parallel batch needs processes that can talk to each other: start them with torchrun")
    if settings.batch_size % count:
        raise UserError(f"--batch-size {settings.batch_size} cannot be split over {count} processes: give a multiple")


def fabric_options() -> dict[str, Any]:
    """Options of Fabric by which the processes of torchrun split batches."""
    from lightning_fabric.strategies import DDPStrategy

    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    return {"devices": local, "num_nodes": world_size() // local, "strategy": DDPStrategy(timeout=PATIENCE)}


def own_share(folds: Sequence[T], settings: TrainSettings) -> list[T]:
    """The folds that this process works on."""
    return list(folds) if splits_batches(settings) else list(folds[rank() :: world_size()])


def concludes(settings: TrainSettings) -> bool:
    """Whether this process puts the scores together: the first one, or each of those that cannot talk to each other."""
    return rank() == 0 or (not splits_batches(settings) and "MASTER_ADDR" not in os.environ)


def largest(fabric: "Fabric", number: int) -> int:
    """The largest of the numbers that the processes of `fabric` give; all must call it."""
    if fabric.world_size == 1:
        return number
    value = torch.tensor(number, device=fabric.device)
    fabric.all_reduce(value, reduce_op="max")  # in place
    return int(value)


def first_alone(fabric: "Fabric", act: Callable[[], None]) -> None:
    """Let the first process of `fabric` act; the others go on when it is done.

    Raises:
        UserError: `act` did, here or in the first process.
    """
    problem: UserError | None = None
    if fabric.is_global_zero:
        try:
            act()
        except UserError as error:
            problem = error
    stopped = largest(fabric, int(problem is not None))
    if problem is not None:
        raise problem
    if stopped:
        raise UserError("the first process of the run stopped, and says why")


def part(fabric: "Fabric") -> None:
    """End the talk between the processes of `fabric`; all must call it.

    What still holds the group is collected first: its threads must be joined while Python runs, or they end the process
    with an error.
    """
    if fabric.world_size > 1:
        fabric.barrier()
        gc.collect()
        torch.distributed.destroy_process_group()


class Meeting:
    """Where the processes of torchrun that train folds of their own meet at the end.

    Torchrun ends all processes when one ends with an error. So none does before all have finished their folds; then the
    first one learns what failed, and concludes for all. Processes that cannot talk to each other do not meet, each
    concludes for itself.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.holds = world_size() > 1 and not splits_batches(settings) and "MASTER_ADDR" in os.environ
        self._store: Store | None = None

    def gather(self, failed: list[str]) -> list[str]:
        """Wait until all processes are here; gives what failed in all of them, in the first one, else `failed`."""
        if not self.holds:
            return failed
        from torch.distributed.rendezvous import rendezvous

        self._store, number, count = next(rendezvous("env://", rank(), world_size(), timeout=PATIENCE))
        self._store.set(f"mol_fast/failed/{number}", json.dumps(failed))
        if number:
            return failed
        keys = [f"mol_fast/failed/{other}" for other in range(count)]
        self._store.wait(keys, PATIENCE)
        return [name for key in keys for name in json.loads(self._store.get(key))]

    def end(self) -> None:
        """Let the others go, or wait until the first process does."""
        if self._store is None:
            return
        if rank() == 0:
            self._store.set("mol_fast/concluded", "yes")
            return
        try:
            self._store.wait(["mol_fast/concluded"], PATIENCE)
        except RuntimeError:  # the first process is gone, and the store with it
            return
