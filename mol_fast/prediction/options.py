"""The options of a prediction."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mol_fast.nn.locate import GENERAL
from mol_fast.prediction.part import parse_time
from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import CONFIDENCE, MOST_BATCH
from mol_fast.vision.finders import Finders

Overlay = Literal["flow", "attribution"]


@dataclass(frozen=True)
class Options:
    """Options of the program.

    Attributes:
        weights: Folder of a run, weights file (.safetensors), or owner/name of the hub. Default: general, the weights
            that come with mol-fast, trained on synthetic faces.
        out: Folder for prediction.json and the other files; created if missing. Default: NAME-prediction in the current
            folder. With several inputs, OUT is the folder that gets a folder NAME-prediction for each.
        seconds: How long a webcam is recorded, in seconds.
        start: Time where the part that is read begins: seconds (80.5), or minutes and seconds (1:20), from the
            beginning of the input. Default: its beginning.
        end: Time where the part ends. Default: the end of the input, as is any later time.
        clip: Treat the input as one annotated clip, from onset to offset of one expression. Always so for videos not
            longer than a window, and, unless --window is given, for prepared files and folders of images; a folder that
            is longer than 4 seconds at its --fps is a video.
        window: Length of a window in seconds (0.5s) or frames (100), at least 8 frames; the model reads 8 of them,
            evenly spaced in time. Default: the span of the windows in training, or 0.5s if the weights do not tell it.
        stride: Distance from one window to the next, in seconds (0.25s) or frames (50). Default: half a window.
        fps: Frames per second. Replaces the time stamps of a video file; folders and prepared files have none.
        aligned: The frames are already aligned face crops: search no faces. Always on for prepared files.
        person: Number of the person whose face is followed. People are numbered as they appear; those that appear
            together by size, the largest first.
        faces: Finder of faces: mediapipe, or dlib with its 68-point predictor (its weights are not for commercial
            use).
        min_score: Smallest score of a face. Default: 0.5 of 1 for mediapipe; 0.2 for dlib, where clear frontal faces
            have about 1 or more.
        max_flow: Flow length that is drawn in full colour, in pixels of the 128 x 128 crop. Default: the 99th
            percentile.
        windows: Predict all windows of a longer video, instead of the moments at which its face moves; so do --window
            and --stride.
        confidence: Least probability of a class; below it, the class is said to be uncertain.
        explain: Say what moved the model's score of the class, and which action units moved (extra explain).
        video: Write annotated.mp4.
        overlay: What annotated.mp4 shows on the face: flow, or attribution, what moved the score of the class during a
            moment. The latter implies --explain.
        device: Device to run on: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
        batch_size: Number of windows in one batch. A smaller batch needs less memory.
    """

    weights: Path = Path(GENERAL)
    out: Path | None = None
    seconds: float = 10.0
    start: str | None = None
    end: str | None = None
    clip: bool = False
    window: str | None = None
    stride: str | None = None
    fps: float | None = None
    aligned: bool = False
    person: int = 1
    faces: Finders = "mediapipe"
    min_score: float | None = None
    max_flow: float | None = None
    windows: bool = False
    confidence: float = CONFIDENCE
    explain: bool = False
    video: bool = True
    overlay: Overlay = "flow"
    device: str = "auto"
    batch_size: int = 4

    @property
    def explains(self) -> bool:
        """Whether classes are explained."""
        return self.explain or self.overlay == "attribution"


def check_options(options: Options) -> None:
    """Raise UserError if an option cannot be used."""
    for name in ("seconds", "fps", "max_flow", "batch_size"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} is {value}, must be positive and finite")
    if not 0 <= options.confidence <= 1:
        raise UserError(f"--confidence is {options.confidence}, must be from 0 to 1")
    if options.clip and (options.window or options.stride or options.windows):
        raise UserError("--clip does not go with --window, --stride or --windows: omit one of them")
    if options.overlay == "attribution" and not options.video:
        raise UserError("--overlay attribution does not go with --no-video: omit one of them")
    if options.batch_size > MOST_BATCH:
        raise UserError(f"--batch-size is {options.batch_size}, must be at most {MOST_BATCH}")
    span_of(options)


def span_of(options: Options) -> tuple[float | None, float | None]:
    """Return --start and --end in seconds."""
    start = None if options.start is None else parse_time(options.start, "--start")
    end = None if options.end is None else parse_time(options.end, "--end")
    if end is not None and end <= (start or 0):
        raise UserError(f"--end is {options.end}, it must be after --start {options.start or 0}")
    return start, end
