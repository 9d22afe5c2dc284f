"""The program that writes a trained model as a file for other programs: `python -m mol_fast.export`."""

import sys
from pathlib import Path

from mol_fast.cli import run_program
from mol_fast.nn.weights import find_weights, load_described
from mol_fast.prediction.exported import OUTPUTS, SUFFIXES, Format, export_model
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    return run_program(run, argv, "export", "export")


def run(weights: Path, out: Path, /, format: Format = "onnx") -> None:
    """Write the model of trained weights as one file, which reads aligned frames and needs no other code of ours.

    The input is uint8 (B, 8, 128, 128): 8 grey frames of an aligned face, for any number B of clips. The model
    normalises them itself. Outputs are class probabilities (with the temperature of the weights, if they tell one),
    optical flow, landmarks and probabilities of facial action units, as far as the model was trained for them. The file
    holds the names of the classes, the units of the outputs, and the list of action units. It is written only if it
    agrees with the model.

    Args:
        weights: Folder of a run or fold, weights file (.safetensors), general (the weights that come with mol-fast), or
            owner/name of the hub.
        out: File to write, .onnx or .pt2; one that is there is replaced.
        format: onnx for ONNX Runtime and others; pt2 for torch.export.load; aoti for code that is compiled for this
            kind of CPU (takes minutes).

    Raises:
        UserError: the weights cannot be used, the ending of OUT does not fit, a package is missing, or the file
            disagrees with the model.
    """
    if out.suffix != SUFFIXES[format]:
        raise UserError(f"OUT is {out}, --format {format} needs the ending {SUFFIXES[format]}")
    if out.is_dir():
        raise UserError(f"OUT is {out}, which is a folder: give the name of a file")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent}, create it first")
    file = find_weights(weights)
    model, header = load_described(file)
    about = {
        "classes": header.classes,
        "spans": header.spans,
        "temperature": header.temperature,
        "weights": file_sha256(file),
    }
    export_model(model, out, format, about, header.temperature or 1.0)
    parts = ", ".join(OUTPUTS[task] for task in model.config.tasks)
    print(f"written to {out}: {parts}; {out.stat().st_size / 1e6:.1f} MB; it agrees with the model")


if __name__ == "__main__":
    sys.exit(main())
