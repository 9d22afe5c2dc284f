"""The program that shows a page to try a model on: `python -m mol_fast.demo`."""

import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path

from mol_fast.cli import run_program
from mol_fast.demo.serving import check_port, served
from mol_fast.nn.weights import GENERAL
from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.utils.errors import UserError
from mol_fast.vision.decoders import quiet_decoders


@dataclass(frozen=True)
class DemoOptions:
    """Options of the program.

    Attributes:
        weights: Folder of a run, weights file (.safetensors), or owner/name of the hub. Default: general, the
            weights that come with mol-fast, trained on synthetic faces.
        port: Port of the page on this machine.
    """

    weights: Path = Path(GENERAL)
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
        UserError: the weights cannot be used, or the port is taken.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("gradio is not installed: pip install 'mol-fast[demo]'")
    check_port(demo.port)
    options = Options(weights=demo.weights, explain=importlib.util.find_spec("captum") is not None)
    predictor = Predictor(options.weights, options.device, options.batch_size, explain=options.explain)
    with served(options, predictor, demo.port) as address:
        print(f"the page is at {address}, with the weights {demo.weights}; Ctrl-C ends it", flush=True)
        threading.Event().wait()
