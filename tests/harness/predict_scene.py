"""What the tests of prediction start from: a rendered head, video files of it, and weights of an untrained model."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mol_fast import MOL, PRESETS
from mol_fast.data import render_video
from mol_fast.nn.weights import save_weights
from mol_fast.vision.video import rgb
from mol_fast.vision.write_video import VideoWriter

CLASSES = ("negative", "positive", "surprise")


@cache
def head() -> npt.NDArray[np.uint8]:
    """18 grey frames (18, 240, 240) of a head in which dlib finds one face."""
    return render_video(1, "surprise", 18, 240).numpy()


def write_head(path: Path, repeats: int = 1, before: int = 0) -> Path:
    """A video of the head at 25 frames per second, after `before` frames without a face."""
    frames = [np.full_like(head()[0], 90)] * before + [*head()] * repeats
    with VideoWriter(path, (240, 240), 25) as writer:
        for frame in frames:
            writer.write(rgb(frame))
    return path


def write_weights(path: Path, temperature: float | None = None) -> Path:
    """Weights of a small model with a narrow flow head, of which no part that starts at zero in training is zero."""
    torch.manual_seed(0)
    model = MOL(config=replace(PRESETS["small"], flow_width=0.05))
    for parameter in model.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.05)
    told = {} if temperature is None else {"temperature": temperature}
    save_weights(path, model, {"classes": list(CLASSES), "preset": "small", **told})
    return path
