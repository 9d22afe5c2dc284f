"""The program that predicts micro-expression, flow and landmarks of a face in a video: `python -m mol_fast.predict`.

For frames in memory call `mol_fast.predict(frames, weights)`, which is `mol_fast.prediction.predictor.predict`.
After this module is imported, `mol_fast.predict` is the module, so the module can be called like the function.

PyTorch is imported once the options are known to be right, and while the first moments are spotted.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mol_fast.cli import fail, progress, run_program
from mol_fast.nn.header import WeightsHeader, read_header
from mol_fast.nn.locate import find_weights, told_name
from mol_fast.prediction.options import Options, check_options
from mol_fast.utils.ahead import Begun
from mol_fast.utils.callable_module import call_module
from mol_fast.utils.errors import InputsFailed, UserError
from mol_fast.utils.files import check_writable
from mol_fast.utils.memory import large_imports
from mol_fast.utils.processes import leave
from mol_fast.vision.decoders import quiet_decoders
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import open_finder

if TYPE_CHECKING:
    from mol_fast.prediction.predictor import Predictor


def __getattr__(name: str) -> Any:
    """Import the function `predict` when it is used."""
    if name == "predict":
        from mol_fast.prediction.predictor import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


call_module(sys.modules[__name__], lambda *arguments, **options: __getattr__("predict")(*arguments, **options))


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    quiet_decoders()
    return run_program(run, argv, "predict", "faces")


def run(inputs: tuple[Path, ...], /, prediction: Options) -> None:
    """Predict micro-expression, optical flow and landmarks of a person in a video, or in several ones.

    One person is followed, by default the largest at the beginning. In a video longer than a window, spots the moments
    at which the face moves, recognises them, and prints them; a still face has none. Of a shorter video, or with
    --windows, prints the class probabilities of each window and of the clip (the mean over windows), and the mean flow
    length in pixels of the 128 x 128 crop; a window counts only if the face is there in all of its frames. Writes
    prediction.json, moments.csv, report.html and annotated.mp4. Weights that were trained without flow or landmarks
    (--tasks) predict only the other tasks. An input that cannot be used does not stop the others.

    Args:
        inputs: Video files, folders of images in the order of the numbers in their names, prepared .safetensors files,
            or the number of a webcam, such as 0, which is recorded first. Every input is predicted for itself.
        prediction: Options of the program.

    Raises:
        UserError: an option or an input cannot be used.
    """
    check_options(prediction)
    folders = _folders(inputs, prediction.out)
    file = find_weights(prediction.weights)
    header = read_header(file)
    options = replace(prediction, weights=Path(told_name(prediction.weights, file)))
    predictor = Begun(lambda: _load(options))
    if len(inputs) > 1 or options.explains:
        predictor()  # before any input is opened: its error is that of no input, or that an extra is missing
    finder = cache(lambda: open_finder(options.faces, options.min_score))
    if len(inputs) == 1:
        _run_one(inputs[0], folders[0], options, header, predictor, finder)
        return
    failed = []
    for path, out in zip(inputs, folders, strict=True):
        print(path, flush=True)
        try:
            _run_one(path, out, options, header, predictor, finder)
        except (UserError, OSError, MemoryError) as error:
            from mol_fast.utils.failures import explain

            fail(str(error) if isinstance(error, UserError) else explain(error) or str(error))
            failed.append(str(path))
    if failed:
        kind = UserError if len(failed) == len(inputs) else InputsFailed
        raise kind(f"{len(failed)} of {len(inputs)} inputs failed, see above: {', '.join(failed)}")


def _load(options: Options) -> "Predictor":
    with large_imports():
        from mol_fast.prediction.predictor import Predictor

    return Predictor(options.weights, options.device, options.batch_size, explain=options.explains)


def _run_one(
    path: Path,
    out: Path,
    options: Options,
    header: WeightsHeader,
    predictor: Begun["Predictor"],
    finder: Callable[[], FaceFinder],
) -> None:
    """Predict one input, write its files into `out` and print its table."""
    from mol_fast.prediction.analysis import analyse
    from mol_fast.prediction.terminal import print_prediction

    device = _webcam(path)
    if device is not None:
        from mol_fast.vision.webcam import record

        path = out / "webcam.mp4"
        with progress("second") as begin:
            record(device, options.seconds, path, begin(f"recording webcam {device}", int(options.seconds)))
    done = analyse(path, out, options, header, predictor, finder, progress, _write_report)
    print_prediction(done.result, (_training_of(options.weights, header), *done.notes), out)


def _training_of(weights: Path, header: WeightsHeader) -> str:
    """Return what the weights were trained on, as a note."""
    from mol_fast.report.labels import SYNTHETIC, sources_in_words

    known = header.learned_from()
    real = ", on no micro-expression of a real person" if known and SYNTHETIC.issuperset(known) else ""
    return f"the weights {weights} were trained on {sources_in_words(known) or 'unknown data'}{real}"


def _write_report(path: Path, **told: Any) -> None:
    from mol_fast.report.moments import write_moments_report

    write_moments_report(path, **told)


def _webcam(path: Path) -> int | None:
    """Return the number of a webcam that is given instead of a file, or None."""
    return int(str(path)) if re.fullmatch(r"[0-9]{1,3}", str(path)) and not path.exists() else None


def _folders(inputs: tuple[Path, ...], out: Path | None) -> list[Path]:
    """Return the folder for the results of each input, all different."""
    if not inputs:
        raise UserError("no input is given, give a video file, a folder of images, or a prepared file")
    if out is not None:
        check_writable(out, "--out")
    if len(inputs) == 1 and out is not None:
        return [out]
    owners: dict[Path, Path] = {}
    for path in inputs:
        name = path.resolve().stem if _webcam(path) is None else f"webcam-{path}"
        folder = (out or Path()) / f"{name}-prediction"
        if folder in owners:
            raise UserError(f"{owners[folder]} and {path} would both be written to {folder}, give them one at a time")
        check_writable(folder, "--out")
        owners[folder] = path
    return list(owners)


if __name__ == "__main__":
    leave(main())
