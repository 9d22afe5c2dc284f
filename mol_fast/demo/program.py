"""The program that shows a page to try a model on: `python -m mol_fast.demo`."""

import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path

from mol_fast.cli import run_program
from mol_fast.demo.serving import check_port, served
from mol_fast.nn.weights import FILE_NAME
from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.utils.errors import UserError
from mol_fast.vision.decoders import quiet_decoders

_RUNS = Path("runs")


@dataclass(frozen=True)
class DemoOptions:
    """Options of the program.

    Attributes:
        weights: Folder of a run, weights file (.safetensors), or owner/name of the hub. Default: the newest weights in
            the folder runs.
        port: Port of the page on this machine.
    """

    weights: Path | None = None
    port: int = 7860


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    quiet_decoders()
    return run_program(run, argv, "demo", "demo")


def run(demo: DemoOptions) -> None:
    """Show a page on this machine, on which a person drops a video and sees when and where its face moved.

    The page is served to this machine alone, and loads nothing from elsewhere. A video and its results are deleted
    when its visitor closes the page, or when the program ends. One video is analysed at a time; others wait. Ctrl-C
    ends the program.

    Args:
        demo: Options of the program.

    Raises:
        UserError: there are no weights, they cannot be used, or the port is taken.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("gradio is not installed: pip install 'mol-fast[demo]'")
    check_port(demo.port)
    weights = demo.weights or newest_weights(_RUNS)
    options = Options(weights=weights, explain=importlib.util.find_spec("captum") is not None)
    predictor = Predictor(options.weights, options.device, options.batch_size, explain=options.explain)
    with served(options, predictor, demo.port) as address:
        print(f"the page is at {address}, with the weights {weights}; Ctrl-C ends it", flush=True)
        threading.Event().wait()


def newest_weights(runs: Path) -> Path:
    """Return the weights that were written last among all runs in a folder.

    Raises:
        UserError: there are none.
    """
    found = [*runs.glob(f"*/{FILE_NAME}"), *runs.glob(f"*/folds/*/{FILE_NAME}")]
    if not found:
        raise UserError(
            f"there are no weights in {runs}: train some with `python -m mol_fast.train`, or give --weights RUN"
        )
    return max(found, key=lambda path: path.stat().st_mtime)
