"""Choice of the device that a program runs on."""

import torch

from mol_fast.utils.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`: "cpu", "cuda", "cuda:1", or "auto" (a GPU if there is one).

    No device is initialised.

    Raises:
        UserError: this machine has no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus))]
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    if name not in known:
        raise UserError(f"the device {name!r} is not available: use --device {' or '.join(known)}")
    return torch.device(name)
