"""The folder of a run: configuration, environment, losses step by step, scores, predictions."""

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from mol_fast.errors import UserError
from mol_fast.files import write_atomic

PACKAGES = ("mol-fast", "torch", "triton", "numpy", "lightning-fabric", "torchmetrics", "scikit-image", "safetensors")


class RunFolder:
    """A new folder for one run. Use as a context manager, which closes the logs.

    Raises:
        UserError: the folder exists and is not empty, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            if path.exists() and any(path.iterdir()):
                raise UserError(f"{path} is not empty: choose another --name, or remove it.")
            path.mkdir(parents=True, exist_ok=True)
            self._metrics = open(path / "metrics.csv", "w", newline="")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"The run folder {path} cannot be made ({error}): choose another --out.") from error
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._events = SummaryWriter(str(path))

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()
        self._events.close()

    def log(self, row: Mapping[str, float]) -> None:
        """Record the values of one step; every row has the same keys, "step" among them."""
        writer = csv.DictWriter(self._metrics, fieldnames=list(row))
        if not self.rows:
            writer.writeheader()
        writer.writerow(row)
        self._metrics.flush()
        self.rows.append(dict(row))
        for key, value in row.items():
            if key != "step":
                self._events.add_scalar(f"train/{key}", value, int(row["step"]))

    def write_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record scores of the held-out subjects for TensorBoard."""
        for key, value in values.items():
            self._events.add_scalar(f"test/{key}", value, step)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write `values` to the file `name`."""
        write_atomic(self.path / name, json.dumps(values, indent=2, default=str) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `rows` as a comma-separated table to the file `name`."""
        import pandas as pd

        write_atomic(self.path / name, pd.DataFrame(rows).to_csv(index=False))


def environment(device: torch.device) -> dict[str, Any]:
    """What a run depends on besides its settings: versions, device, threads."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        **versions,
    }
