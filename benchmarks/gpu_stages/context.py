"""The context of a stage: folders, deadline, sizes, results."""

import json
import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gpu_stages import records

VARIABLE = "MOL_FAST_GPU_SESSION"
"""Environment variable with the context, as JSON, for the processes of a stage."""
PATIENCE = 30.0
"""Factor on the time limits of tasks in a rehearsal, which may run on any machine."""
LAST = 2.0
"""Seconds before its deadline when a stage ends by itself, so that it need not be killed."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run. `REHEARSAL` has the smallest sizes that run the same code on a CPU."""

    device: str = "cuda"
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    maps: tuple[int, ...] = (448, 224, 56)
    channels: int = 128
    side: int = 16
    neighbors: int = 4
    clips: int = 32
    frames: int = 8
    preset: str = "paper"
    operators: tuple[str, ...] = ("FCC", "CCC", "correlation")
    tuned: tuple[str, ...] = operators
    layers: tuple[str, ...] = ("F5C", "CCC", "FCC", "correlation")
    tasks: tuple[str, ...] = ("mer", "flow", "landmarks")
    most_compiled: int = 100
    """Most layers to compile ahead of their timing."""
    most_candidates: int = 400
    """Most candidates per kernel and dtype in tuning."""
    most_searches: int = 100
    """Most pairs of kernel and dtype in tuning."""
    turns: int = 3
    """Number of comparisons of winners and pinned tiles at the end of tuning."""
    small: tuple[int, int, int, int] = (8, 32, 16, 16)
    """Shape of maps under the memory checker."""
    odd: tuple[int, int, int, int] = (6, 6, 5, 12)
    """Shape of maps without symmetry."""


REHEARSAL = Sizes(
    device="cpu",
    dtypes=("float32",),
    maps=(2,),
    channels=4,
    side=4,
    neighbors=2,
    clips=1,
    frames=5,
    operators=("CCC", "correlation"),
    tuned=("CCC",),
    layers=("CCC",),
    most_searches=2,
    turns=1,
    tasks=("mer",),
    most_compiled=1,
    preset="small",
    most_candidates=1,
    small=(1, 2, 4, 4),
    odd=(2, 4, 2, 3),
)
"""Sizes of a rehearsal on a CPU: kernels run in Triton's interpreter, and one call by the wall clock replaces the
replay of a graph. FCC, the slowest there, runs only as part of the small block."""


@dataclass(frozen=True)
class Context:
    """Context of one stage. Times are those of `time.monotonic`, which all processes of a machine share."""

    root: Path
    out: Path
    scratch: Path
    deadline: float
    stage: str = ""
    rehearsal: bool = False
    failed: tuple[str, ...] = ()
    """Operators whose kernels failed in smoke; they run on PyTorch."""
    sizes: Sizes = field(default_factory=Sizes)

    def left(self) -> float:
        """Return the seconds until the stage should end by itself."""
        return self.deadline - LAST - time.monotonic()

    def allowed(self, seconds: float) -> float:
        """Return the time limit of a task that takes at most `seconds` on a GPU machine."""
        return seconds * (PATIENCE if self.rehearsal else 1.0)

    def record(self, kind: str, **values: Any) -> None:
        """Append a result to the records."""
        records.append(self.out / records.FILE, {"kind": kind, "stage": self.stage, **values})

    def table(self) -> Path:
        """Return the table of best tiles that the processes of this run read."""
        return self.scratch / "import" / "mol_fast" / "kernels" / "tiles.json"

    def environment(self) -> dict[str, str]:
        """Return the environment of a process: this context, import paths, own caches, pinned tiles."""
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        paths = [self.scratch / "import", self.root / "benchmarks", self.root / "tests"]
        known = os.environ.get("PYTHONPATH")
        changes = {
            VARIABLE: json.dumps(values),
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *([known] if known else [])]),
            "PYTHONSAFEPATH": "1",  # the working directory has a mol_fast without kernels
            "PYTHONUNBUFFERED": "1",
            "TRITON_CACHE_DIR": str(self.scratch / "triton"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.scratch / "inductor"),
        }
        if self.rehearsal:
            changes |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        inherited = {name: value for name, value in os.environ.items() if name != "MOL_FAST_TILES"}
        return {**inherited, **changes}


def current() -> Context:
    """Return the context of this process, which a session has started."""
    values = json.loads(os.environ[VARIABLE])
    sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in values["sizes"].items()}
    known = {item.name for item in fields(Context)}
    changed = {name: Path(values[name]) for name in ("root", "out", "scratch")}
    return Context(
        **{**{name: value for name, value in values.items() if name in known}, **changed}
        | {"sizes": Sizes(**sizes), "failed": tuple(values["failed"])}
    )


def interpreter(context: Context) -> AbstractContextManager[Any]:
    """Return Triton's interpreter of a rehearsal, without what it does in vain; nothing on a GPU."""
    if not context.rehearsal:
        return nullcontext()
    from harness.quick import quick_interpreter

    return quick_interpreter()
