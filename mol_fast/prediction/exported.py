"""Export a trained model to a file that other programs run: ONNX, PyTorch's exported programs, or compiled code.

The exported model reads aligned frames as they are, uint8, and normalises them itself. Its outputs have the units of
`MOLOutput`. A file is written only after it gave the same numbers as the model.
"""

import contextlib
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mol_fast.data.clips import normalise_frames
from mol_fast.nn.model import MOL, MOLUnitsOutput
from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import MOST_BATCH
from mol_fast.vision import facs
from mol_fast.vision.sizes import CROP, WINDOW

Format = Literal["onnx", "pt2", "aoti"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "pt2": ".pt2", "aoti": ".pt2"}
KEY = "mol_fast"
"""Key of the metadata in the file, a JSON text."""
TOLERANCE = 1e-4
"""Largest difference of the file from the model in float32, absolute, and relative to values above 1."""
UNITS = {
    "probabilities": "(B, K), of the classes",
    "flow": "(B, 2, 7, 128, 128), from each frame to the next, pixels of the crop; first x (columns), then y (rows)",
    "landmarks": "(B, 7, 68, 2), iBUG points (x, y) of frames 2 to 8, pixels of the crop",
    "action_units": "(B, 12), probabilities of the facial action units that action_units lists",
}
OUTPUTS = {"mer": "probabilities", "flow": "flow", "landmarks": "landmarks", "units": "action_units"}
"""The output of each task."""
Run = Callable[[npt.NDArray[np.uint8]], Sequence[npt.NDArray[np.float32]]]


class AlignedFrames(nn.Module):
    """A model that reads frames uint8 (B, 8, 128, 128) and returns a tuple of what it predicts, named in `outputs`.

    Args:
        model: the model.
        temperature: temperature that calibrates the probabilities.
    """

    def __init__(self, model: MOL, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.outputs = tuple(OUTPUTS[task] for task in model.config.tasks)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        output = self.model(normalise_frames(frames)[:, None])
        units = output.units.sigmoid() if isinstance(output, MOLUnitsOutput) else None
        parts = ((output.logits / self.temperature).softmax(-1), output.flow, output.landmarks, units)
        return tuple(part for part in parts if part is not None)


def export_model(
    model: MOL, path: str | os.PathLike[str], format: Format, about: Mapping[str, Any], temperature: float = 1.0
) -> None:
    """Write a model as a file that runs batches of any size.

    Args:
        model: the model, in evaluation mode, on the CPU, in float32.
        path: file to write, .onnx or .pt2.
        format: "onnx" for ONNX runtimes, "pt2" for `torch.export.load`, "aoti" for code compiled for this kind of CPU,
            which `torch._inductor.aoti_load_package` reads.
        about: plain values for the metadata, including "classes".
        temperature: temperature that calibrates the probabilities.

    Raises:
        ValueError: the model is in training mode.
        UserError: the ending of the path does not fit, a package is missing, or the file disagrees with the model.
    """
    target = Path(path)
    if model.training:
        raise ValueError("the model is in training mode, call model.eval() before the export")
    if target.suffix != SUFFIXES[format]:
        raise UserError(f"the file is {target}, the format {format} needs the ending {SUFFIXES[format]}")
    module = AlignedFrames(model, temperature).eval()
    listed = {"action_units": facs.UNITS} if "units" in model.config.tasks else {}
    metadata = json.dumps(
        {**about, **listed, "frames": f"uint8 (B, {WINDOW}, {CROP}, {CROP}), grey, aligned", "units": _units(module)}
    )
    part = target.with_name(f".write-{secrets.token_hex(8)}{target.suffix}")
    try:
        with _quiet():
            program = torch.export.export(
                module, (_frames(2),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MOST_BATCH)},)
            )
            run = {"onnx": _to_onnx, "pt2": _to_pt2, "aoti": _to_aoti}[format](program, part, module.outputs, metadata)
        _check(module, run, target)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _units(module: AlignedFrames) -> dict[str, str]:
    return {name: UNITS[name] for name in module.outputs}


def _to_onnx(program: torch.export.ExportedProgram, path: Path, outputs: Sequence[str], metadata: str) -> Run:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install 'mol-fast[export]'") from error
    written = torch.onnx.export(
        program, (_frames(2),), dynamo=True, input_names=["frames"], output_names=list(outputs), verbose=False
    )
    assert written is not None
    model = written.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda frames: session.run(None, {"frames": frames})


def _to_pt2(program: torch.export.ExportedProgram, path: Path, outputs: Sequence[str], metadata: str) -> Run:
    torch.export.save(program, path, extra_files={KEY: metadata})
    loaded = torch.export.load(path).module()
    return lambda frames: [part.detach().numpy() for part in loaded(torch.from_numpy(frames))]


def _to_aoti(program: torch.export.ExportedProgram, path: Path, outputs: Sequence[str], metadata: str) -> Run:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    aoti_compile_and_package(
        program, package_path=str(path), inductor_configs={"aot_inductor.metadata": {KEY: metadata}}
    )
    loaded = aoti_load_package(str(path))
    return lambda frames: [part.numpy() for part in loaded(torch.from_numpy(frames))]


def _check(module: AlignedFrames, run: Run, target: Path) -> None:
    """Raise UserError if the file and the model differ on batches of another size than that of the export."""
    for batch in (1, 3):
        frames = _frames(batch)
        with torch.no_grad():
            expected = [part.numpy() for part in module(frames)]
            found_parts = run(frames.numpy())
        for name, want, found in zip(module.outputs, expected, found_parts, strict=True):
            if want.shape != found.shape or not np.allclose(found, want, rtol=TOLERANCE, atol=TOLERANCE):
                raise UserError(
                    f"{target} is not written: the output {name} differs from that of the model by "
                    f"{np.abs(found - want).max():.1g}; report it, with the versions of `python -m mol_fast.doctor`"
                )


def _frames(batch: int) -> Tensor:
    """Return clips of smooth noise, always the same ones."""
    generator = torch.Generator().manual_seed(batch)
    coarse = torch.rand(batch, WINDOW, 16, 16, generator=generator)
    return (255 * nn.functional.interpolate(coarse, (CROP, CROP), mode="bilinear")).to(torch.uint8)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Run without the exporters' own messages, and with gradients off."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
