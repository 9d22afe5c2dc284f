"""Checkpoints of a training: weights, optimiser state, step and step log in one file with a digest."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mol_fast.training.parallel import largest
from mol_fast.utils.errors import Stopped, UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import shown
from mol_fast.utils.schema import parse_json
from mol_fast.utils.sealed import DamagedFile, pack, unpack

KEPT = 2
"""Number of kept checkpoints: the newest, and one before in case the newest is damaged."""


class Resumed(msgspec.Struct):
    """A resume in an environment that may give other bits.

    Attributes:
        after_step: last step of the environment before.
        changed: names of the changed entries, each with its value before and after.
    """

    after_step: int
    changed: dict[str, tuple[str, str]]


class _Kept(msgspec.Struct):
    """What the header of a checkpoint holds beside its tensors."""

    identity: str
    lines: list[str]
    environment: dict[str, str]
    resumed: list[Resumed]


class Checkpoints:
    """Checkpoints in `folder`: one every `every` steps, and one when a signal stops the run.

    Args:
        folder: created if needed.
        every: number of steps between checkpoints; 0 to write one only on a signal.
        identity: digest of all settings that a run must share with a checkpoint to resume from it.
        environment: versions and hardware that may change bits; see `bits_environment`.
        fabric: fabric of the processes that split batches. The first process writes, all read, and all stop after the
            same step.

    Attributes:
        lines: lines of metrics.csv, part of the state; see `StepLog`.
        resumed: resumes in another environment.
        signal: number of the signal that came, or None.
    """

    def __init__(
        self, folder: Path, every: int, identity: str, environment: Mapping[str, str], fabric: Fabric | None = None
    ) -> None:
        self.folder, self.every, self.identity, self.fabric = folder, every, identity, fabric
        self.environment = dict(environment)
        self.lines: list[str] = []
        self.resumed: list[Resumed] = []
        self.signal: int | None = None
        self._stop = 0

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest intact checkpoint into `model` and `optimizer`, and return its step; 0 if there is none.

        Lines and resumes become those of the checkpoint. An environment that changed since is added to the resumes.

        Raises:
            UserError: the processes did not all find the same checkpoint.
        """
        step = self._load(model, optimizer)
        if self.resumed and self.resumed[-1].after_step == step and self._writes:
            pairs = self.resumed[-1].changed.items()
            changes = ", ".join(f"{shown(name)} {shown(old)}, now {shown(new)}" for name, (old, new) in pairs)
            text = f"{self.folder.parent} is resumed after step {step} where other conditions held ({changes})"
            print(f"warning: {text}: its last bits may differ from those of an uninterrupted run", file=sys.stderr)
        if self.fabric and largest(self.fabric, step) != -largest(self.fabric, -step):
            raise UserError(f"not all processes see the checkpoints in {self.folder}: give an --out that all share")
        return step

    def _load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        for path in sorted(self.folder.glob("step-*.safetensors"), reverse=True):
            found = self._read(path, model)
            if found is None:
                if self._writes:
                    print(f"{path} is damaged, or of another run or version: ignored", flush=True)
                continue
            tensors, kept = found
            step = int(tensors.pop("step"))
            self.lines[:] = kept.lines
            self.resumed[:] = kept.resumed
            names = kept.environment.keys() | self.environment.keys()
            pairs = {name: (kept.environment.get(name, ""), self.environment.get(name, "")) for name in sorted(names)}
            changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
            if changed:
                self.resumed.append(Resumed(step, changed))
            weights = {name.removeprefix("model."): value for name, value in tensors.items() if name[:6] == "model."}
            model.load_state_dict(weights)
            optimizer.load_state_dict(
                {"state": _optimizer_state(tensors, model), "param_groups": optimizer.state_dict()["param_groups"]}
            )
            return step
        return 0

    def due(self, step: int) -> bool:
        """Return whether `after` will write a checkpoint at `step`. All processes must call this once per step.

        A later signal counts for the next step.
        """
        self._stop = largest(self.fabric, self.signal or 0) if self.fabric else self.signal or 0
        return bool(self._stop or (self.every and step % self.every == 0))

    def after(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the checkpoint of `step`, which must be due.

        Raises:
            Stopped: this process or another one received a signal.
        """
        self.save(step, model, optimizer)
        if self._stop:
            if self.fabric:
                self.fabric.barrier()
            raise Stopped(self._stop, f"stopped by {signal.Signals(self._stop).name} after step {step}")

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, and remove all but the two newest."""
        if not self._writes:
            return
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        tensors["step"] = torch.tensor(step)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = _Kept(self.identity, self.lines, self.environment, self.resumed)
        metadata = {"kept": msgspec.json.encode(kept).decode()}
        write_atomic(self.folder / f"step-{step:08d}.safetensors", pack(tensors, metadata))
        for path in sorted(self.folder.glob("step-*.safetensors"))[:-KEPT]:
            path.unlink(missing_ok=True)

    @property
    def _writes(self) -> bool:
        return self.fabric is None or self.fabric.is_global_zero

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the context, let SIGINT and SIGTERM stop the run after the current step."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _read(self, path: Path, model: nn.Module) -> tuple[dict[str, Tensor], _Kept] | None:
        """Return a checkpoint that is intact, belongs to this run and fits `model`; else None."""
        try:
            tensors, metadata = unpack(path)
            kept = parse_json(metadata["kept"], _Kept, path, "remove it")
        except (DamagedFile, OSError, KeyError, UserError):
            return None
        return (tensors, kept) if kept.identity == self.identity and _fits(tensors, model) else None


def _fits(tensors: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Return whether these are a step, the tensors of `model`, and the state of AdamW of some of its parameters."""
    expected = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, parameter in enumerate(model.parameters()):
        if f"optimizer.{index}.step" in tensors:
            expected |= {f"optimizer.{index}.{key}": parameter for key in ("exp_avg", "exp_avg_sq")}
            expected[f"optimizer.{index}.step"] = torch.tensor(0.0)
    expected["step"] = torch.tensor(0)
    there, here = ({name: (x.shape, x.dtype) for name, x in given.items()} for given in (tensors, expected))
    return there == here and bool(tensors["step"] > 0)


def _optimizer_state(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[int, dict[str, Tensor]]:
    parameters = list(model.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            like = parameters[int(index)]
            # The fused optimiser walks a parameter and its state in memory order, so their strides must agree.
            value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            state.setdefault(int(index), {})[key] = value
    return state
