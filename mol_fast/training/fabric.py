"""Make the fabric of a program: device, precision, processes."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Literal

from mol_fast.training.parallel import fabric_options
from mol_fast.utils.bfloat16 import EMULATED, emulates_bfloat16, has_bfloat16
from mol_fast.utils.device import choose_device
from mol_fast.utils.processes import rank

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(device: str = "auto", precision: str = "auto", splits: bool = False) -> "Fabric":
    """Make the fabric of a run. Warns on stderr if the CPU would only emulate bfloat16.

    Args:
        device: see `choose_device`.
        precision: "bfloat16", "float32", or "auto" (bfloat16 if the device has instructions for it).
        splits: connect the processes of torchrun, which split every batch.

    Raises:
        UserError: the device is not available.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    chosen = choose_device(device)
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(chosen) else "float32"
    if precision == "bfloat16" and emulates_bfloat16(chosen) and rank() == 0:
        print(f"warning: {EMULATED}; give --precision float32 instead", file=sys.stderr, flush=True)
    digits: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if precision == "bfloat16" else "32-true"
    if splits:
        fabric = Fabric(accelerator=chosen.type, precision=digits, **fabric_options())
        fabric.launch()
        return fabric
    if chosen.type == "cpu":
        return Fabric(accelerator="cpu", devices=1, precision=digits)
    number = int(os.environ.get("LOCAL_RANK", 0)) if chosen.index is None else chosen.index
    return Fabric(accelerator="cuda", devices=[number], precision=digits)


def fabric_precision(fabric: "Fabric") -> str:
    """Return the precision of `fabric`, as the option --precision names it."""
    return "bfloat16" if fabric.strategy.precision.precision == "bf16-mixed" else "float32"
