"""Device and precision of a program."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Literal

import torch

from mol_fast.parallel import fabric_options, splits_batches
from mol_fast.settings import TrainSettings
from mol_fast.utils.bfloat16 import EMULATED, emulates_bfloat16, has_bfloat16
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import rank

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(settings: TrainSettings) -> "Fabric":
    """Device and precision of a run; where processes split batches, they are connected.

    Where a CPU emulates the bfloat16 that is asked for, a warning says so.

    Raises:
        UserError: the device is not there.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    kind, index = _choose_device(settings.device)
    precision, device = settings.precision, torch.device(f"{kind}:{index}" if index else kind)
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    if precision == "bfloat16" and emulates_bfloat16(device) and rank() == 0:
        print(f"warning: {EMULATED}; give --precision float32 instead", file=sys.stderr, flush=True)
    digits: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if precision == "bfloat16" else "32-true"
    if splits_batches(settings):
        fabric = Fabric(accelerator=kind, precision=digits, **fabric_options(settings))
        fabric.launch()
        return fabric
    devices = [int(index)] if index else [int(os.environ.get("LOCAL_RANK", 0))] if kind == "cuda" else 1
    return Fabric(accelerator=kind, devices=devices, precision=digits)


def fabric_precision(fabric: "Fabric") -> str:
    """The precision that `fabric` works in, as an option of the training names it."""
    return "bfloat16" if fabric.strategy.precision.precision == "bf16-mixed" else "float32"


def _choose_device(name: str) -> tuple[str, str]:
    """Kind and number of the device `name`, the number empty where none is given.

    Raises:
        UserError: the device is not there.
    """
    device = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    kind, _, index = device.partition(":")
    known = [str(number) for number in range(torch.cuda.device_count())] if kind == "cuda" else []
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not known) or (index and index not in known):
        raise UserError(f"The device {name!r} is not available: use --device cpu.")
    return kind, index
