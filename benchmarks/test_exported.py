"""Time the model as it is exported, in PyTorch, in ONNX Runtime, and as code that AOTInductor compiled; on the CPU.

The exported model reads uint8 frames, so it is compared with itself in float64 on such frames.
"""

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import counts
import numpy as np
import pytest
import torch
from backends import DEVICE, skipped
from budget import cost
from gate import Results, errors_of, refuse_wrong
from measure import Labels, Measure
from torch import Tensor
from whole_model import CLEAR, build, smallest_gap

from mol_fast.data import normalise_frames
from mol_fast.prediction.exported import SUFFIXES, AlignedFrames, Format, export_model

CLIPS = (1, 4)
CPU = torch.device("cpu")
SECONDS = {"torch": 6.0, "onnx": 40.0, "pt2": 15.0, "aoti": 110.0}
"""Cost of a case, see budget.py; the second of a format needs no export."""
Run = Callable[[Tensor], Results]


def unavailable(runtime: str) -> str | None:
    """Return the reason why a runtime cannot be timed here, or None."""
    if DEVICE.type != "cpu":
        return "exported files are timed on machines without a GPU"
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    return f"{missing[0]} is not installed" if runtime == "onnx" and missing else None


CASES = [
    pytest.param(
        *(count, runtime),
        id=f"{count}-{runtime}",
        marks=[cost(SECONDS[runtime] if count == 1 else SECONDS["torch"]), *skipped(unavailable(runtime))],
    )
    for runtime in ("torch", *get_args(Format))
    for count in CLIPS
]


@pytest.fixture(scope="module")
def module() -> AlignedFrames:
    return AlignedFrames(build("clip", False, CPU)).eval()


@pytest.fixture(scope="module")
def runtimes(module: AlignedFrames, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return a function that exports the model for a runtime, once, and returns it as it runs there."""
    folder, made = tmp_path_factory.mktemp("exported"), dict[str, Run]()

    def runtime(name: str) -> Run:
        if name not in made:
            made[name] = of_torch(module, module) if name == "torch" else exported(module, name, folder)
        return made[name]

    return runtime


def exported(module: AlignedFrames, name: str, folder: Path) -> Run:
    """Export the model, which refuses to write a wrong file, and return it as the runtime of this format runs it."""
    format = next(item for item in get_args(Format) if item == name)
    path = folder / f"{name}{SUFFIXES[format]}"
    export_model(module.model, path, format, {"classes": list(range(module.model.config.num_classes))})
    if name == "onnx":
        return of_onnx(module, path)
    from torch._inductor import aoti_load_package

    return of_torch(module, torch.export.load(path).module() if name == "pt2" else aoti_load_package(str(path)))


def of_torch(module: AlignedFrames, call: Callable[[Tensor], tuple[Tensor, ...]]) -> Run:
    @torch.no_grad()
    def run(frames: Tensor) -> Results:
        return Results(dict(zip(module.outputs, call(frames), strict=True)), {})

    return run


def of_onnx(module: AlignedFrames, path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(frames: Tensor) -> Results:
        parts = session.run(None, {"frames": frames.numpy()})
        return Results(dict(zip(module.outputs, map(torch.from_numpy, parts), strict=True)), {})

    return run


def clear_frames(model: torch.nn.Module, count: int) -> Tensor:
    """Draw frames, uint8 (count, 8, 128, 128), whose neighbours rounding in float32 cannot change."""
    for seed in range(100):
        drawn = np.random.default_rng(seed).integers(0, 256, (count, 8, 128, 128), dtype=np.uint8)
        frames = torch.from_numpy(drawn)
        if smallest_gap(model, normalise_frames(frames)[:, None].double()) > CLEAR:
            return frames
    raise AssertionError("no frames with clear neighbours")


@pytest.mark.parametrize(("count", "runtime"), CASES)
def test_exported(
    measure: Measure, module: AlignedFrames, runtimes: Callable[[str], Run], count: int, runtime: str
) -> None:
    double = copy.deepcopy(module).double()
    frames = clear_frames(double.model, count)
    exact = of_torch(double, lambda given: double_outputs(double, given))(frames)
    plain = errors_of(runtimes("torch")(frames), exact)
    run = runtimes(runtime)
    passed = refuse_wrong(run(frames), exact, plain, torch.float32)
    labels = Labels("exported model", "forward", f"({count}, 8, 128, 128)", runtime, "float32")
    least = sum(value.numel() for value in module.parameters()) * 4
    measure(lambda: run(frames), labels, counts.model(count, False), least, **passed)


def double_outputs(double: AlignedFrames, frames: Tensor) -> tuple[Tensor, ...]:
    output = double.model(normalise_frames(frames)[:, None].double())
    parts = output.logits.softmax(-1), output.flow, output.landmarks
    return tuple(part for part in parts if part is not None)
