"""Several processes in one run: each trains its own folds, or all split every batch.

The environment variables RANK and WORLD_SIZE identify the processes; torchrun sets them, or the script of independent
jobs (a SLURM array). Only processes of torchrun, which sets MASTER_ADDR, can communicate. Independent jobs share folds,
too; the last one to finish pools the scores.
"""

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import rank, world_size

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.distributed import Store

PATIENCE = timedelta(days=14)
"""Longest time that processes wait for each other; a fold may take days."""

T = TypeVar("T")


def splits_batches(settings: TrainSettings) -> bool:
    """Return True if the processes of this run split every batch."""
    return settings.parallel == "batch" and world_size() > 1


def check_processes(settings: TrainSettings) -> None:
    """Raise UserError if the processes do not fit `settings`."""
    count = world_size()
    if not 0 <= rank() < count:
        raise UserError(f"RANK is {rank()} where WORLD_SIZE is {count}: it must be from 0 to {count - 1}")
    if count > 1 and settings.name is None:
        raise UserError(f"{count} processes need one folder for their run: give --name")
    if not splits_batches(settings):
        return
    if "MASTER_ADDR" not in os.environ:
        raise UserError("--parallel batch needs processes that communicate: start them with torchrun")
    for name in ("batch_size", "stills"):
        if (wanted := getattr(settings, name)) % count:
            option = name.replace("_", "-")
            raise UserError(f"--{option} {wanted} cannot be split over {count} processes: give a multiple of {count}")


def fabric_options() -> dict[str, Any]:
    """Return options of Fabric that let the processes of torchrun split batches."""
    from lightning_fabric.strategies import DDPStrategy

    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    return {"devices": local, "num_nodes": world_size() // local, "strategy": DDPStrategy(timeout=PATIENCE)}


def own_share(folds: Sequence[T], settings: TrainSettings) -> list[T]:
    """Return the folds of this process."""
    return list(folds) if splits_batches(settings) else list(folds[rank() :: world_size()])


def concludes(settings: TrainSettings) -> bool:
    """Return True if this process pools the scores: the first one, or every process that cannot communicate."""
    return rank() == 0 or (not splits_batches(settings) and "MASTER_ADDR" not in os.environ)


def largest(fabric: "Fabric", number: int) -> int:
    """Return the largest `number` over the processes of `fabric`. All must call this."""
    if fabric.world_size == 1:
        return number
    value = torch.tensor(number, device=fabric.device)
    fabric.all_reduce(value, reduce_op="max")  # in place
    return int(value)


def first_alone(fabric: "Fabric", act: Callable[[], None]) -> None:
    """Let the first process of `fabric` call `act`, while the others wait.

    Raises:
        UserError: `act` raised it in the first process.
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
        raise UserError("the first process of the run stopped: see its message")


def part(fabric: "Fabric") -> None:
    """Disconnect the processes of `fabric`. All must call this.

    Collects garbage first: the group's threads must be joined while Python still runs, or the process ends with an
    error.
    """
    if fabric.world_size > 1:
        fabric.barrier()
        gc.collect()
        torch.distributed.destroy_process_group()


@contextmanager
def _ends_at_once() -> Iterator[None]:
    """Let SIGTERM end this process inside the context. A wait outside of Python would delay our own reaction to it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Meeting:
    """Meeting point at the end of a run, for processes of torchrun that train their own folds.

    Torchrun ends all processes when one fails. So no process fails before all have finished their folds; then the first
    process learns what failed, and pools the scores. Processes that cannot communicate do not meet.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.holds = world_size() > 1 and not splits_batches(settings) and "MASTER_ADDR" in os.environ
        self._store: Store | None = None

    def gather(self, failed: list[str]) -> list[str]:
        """Wait for all processes. The first process gets the failures of all, the others get their own."""
        if not self.holds:
            return failed
        from torch.distributed.rendezvous import rendezvous

        self._store, number, count = next(rendezvous("env://", rank(), world_size(), timeout=PATIENCE))
        self._store.set(f"mol_fast/failed/{number}", json.dumps(failed))
        if number:
            return failed
        keys = [f"mol_fast/failed/{other}" for other in range(count)]
        with _ends_at_once():
            self._store.wait(keys, PATIENCE)
        return [name for key in keys for name in json.loads(self._store.get(key))]

    def end(self) -> None:
        """Release the other processes, or wait until the first process does."""
        if self._store is None:
            return
        if rank() == 0:
            self._store.set("mol_fast/concluded", "yes")
            return
        try:
            with _ends_at_once():
                self._store.wait(["mol_fast/concluded"], PATIENCE)
        except RuntimeError:  # the first process is gone, and the store with it
            return
