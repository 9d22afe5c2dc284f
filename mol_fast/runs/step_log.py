"""The log of a training, step by step: metrics.csv and TensorBoard events."""

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from mol_fast.runs.folder import STEPS
from mol_fast.utils.files import write_atomic
from mol_fast.utils.tables import csv_table


class StepLog:
    """Log with one row of numbers per step. Use it as a context manager, which closes the files.

    Args:
        folder: an existing folder.
        lines: lines of metrics.csv so far, which replace the file. New lines are added to this list, so that a
            checkpoint can hold them: the file may be lost or damaged before the run resumes.
        done: steps done so far. TensorBoard ignores later ones, left by an interrupted run.
    """

    def __init__(self, folder: Path, lines: list[str], done: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / STEPS
        write_atomic(path, "".join(lines))
        self._lines = lines
        self._file = open(path, "a", newline="")  # noqa: SIM115
        self._events = SummaryWriter(str(folder), purge_step=done + 1)

    def __enter__(self) -> "StepLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._events.close()

    def add(self, row: Mapping[str, float]) -> None:
        """Log the values of one step. Every row has the same keys, including "step"."""
        text = csv_table([row], header=not self._lines)
        self._lines.append(text)
        self._file.write(text)
        self._file.flush()
        for key, value in row.items():
            if key != "step":
                self._events.add_scalar(f"train/{key}", value, int(row["step"]))

    def add_scores(self, values: Mapping[str, float], step: int) -> None:
        """Log scores of the held-out subjects to TensorBoard."""
        for key, value in values.items():
            self._events.add_scalar(f"test/{key}", value, step)


def read_steps(path: Path) -> list[dict[str, float]]:
    """Read the rows of a metrics.csv. Incomplete or damaged rows are ignored."""
    rows = []
    with open(path, newline="", errors="replace") as file:
        for row in csv.DictReader(file):
            try:
                rows.append({key: int(value) if key == "step" else float(value) for key, value in row.items()})
            except (TypeError, ValueError):
                continue
    return [row for row in rows if "step" in row]
