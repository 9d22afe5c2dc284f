"""The embedded set: synthetic micro-expression videos from two photographs, with exact flow and landmarks.

Training, tests and demonstrations run on it without licensed data. Scores on it say nothing about the recognition of
real micro-expressions.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mol_fast.data.embedded.action_units import EMOTIONS
from mol_fast.data.embedded.geometry import pixel_grid
from mol_fast.data.embedded.motion import make_motion
from mol_fast.data.embedded.photographs import CREDITS
from mol_fast.data.embedded.rendering import moving_face, render_clip, render_frames
from mol_fast.data.embedded.subjects import Subject, make_subject
from mol_fast.data.kept import check_replaceable, kept_set
from mol_fast.data.store import PreparedSet, Video, write_index, write_video
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import cache_folder, replaced_folder
from mol_fast.vision.sizes import FRAME, interval

EMBEDDED = "embedded"
"""Source of synthetic videos, whose scores say nothing about real micro-expressions."""
FPS = 40.0
"""Nominal frames per second: with it, the motion of a video takes 0.2 or 0.4 s, as that of a micro-expression."""
SUBJECTS, MOST_SUBJECTS = 12, 1000
"""Number of subjects by default, and at most."""
_FURTHER = 100  # number of the first one of further subjects
VERSION = 3  # version of the generator; sets of other versions are generated again
_MARGIN = 16  # pixels around the frame that motion may move into it
_HEAD = 68  # pixels around the frame that show the whole head
_FRAMES = (12, 20)  # fewest and most frames of a video

Progress = Callable[[int, int], object]


def embedded_set(
    data_dir: str | os.PathLike[str] | None = None,
    on_progress: Progress = lambda done, total: None,
    subjects: int = SUBJECTS,
) -> PreparedSet:
    """Open the embedded set. Generate it first if needed (seconds, about 220 MB; both grow with `subjects`).

    A set of another version, or with missing files, is generated again.

    Args:
        data_dir: its folder. Default: a folder in the user's cache, another one for each number of subjects.
        on_progress: see `generate_embedded`.
        subjects: number of subjects, at least 12. The first twelve are always the same; further ones are s101, s102
            and so on, so that no other program's subjects are among them.

    Raises:
        UserError: the folder holds something else, cannot be written, or scikit-image or matplotlib is missing.
        ValueError: `subjects` is out of range.
    """
    if not SUBJECTS <= subjects <= MOST_SUBJECTS:
        raise ValueError(f"subjects must be from {SUBJECTS} to {MOST_SUBJECTS}, got {subjects}")
    more = subjects - SUBJECTS
    name = f"{EMBEDDED}-{subjects}" if more else EMBEDDED
    folder = Path(data_dir) if data_dir is not None else cache_folder() / name
    numbers = (*range(SUBJECTS), *range(_FURTHER, _FURTHER + more))
    make = partial(generate_embedded, subjects=numbers, on_progress=on_progress)
    found = kept_set(folder, EMBEDDED, VERSION, make)
    if more and len(found.subjects) != subjects:
        raise UserError(f"{folder} holds {len(found.subjects)} subjects, not {subjects}; give another --data-dir")
    return found


def generate_embedded(
    path: str | os.PathLike[str],
    subjects: int | Sequence[int] = SUBJECTS,
    repeats: int = 3,
    seed: int = 0,
    on_progress: Progress = lambda done, total: None,
) -> PreparedSet:
    """Generate the embedded set in the folder `path`, replacing its content.

    The set is generated in a temporary folder beside `path`, which is renamed once it is complete. The set depends
    only on the arguments and on package versions. Each video depends on the seed, its subject and its number, not on
    the number of videos.

    Args:
        path: folder of the set; a set that is there is replaced, nothing else is.
        subjects: how many, or the numbers of the subjects, counted from 0. Those with even numbers are made from one of
            two photographs, the others from the other one.
        repeats: videos per subject and emotion.
        seed: seed of everything random.
        on_progress: called after each video with (videos done, all videos).

    Raises:
        UserError: the folder holds something else or cannot be written, or scikit-image or matplotlib is missing.
    """
    folder = Path(path).resolve()
    check_replaceable(folder)
    numbers = range(subjects) if isinstance(subjects, int) else subjects
    videos: list[Video] = []
    try:
        with replaced_folder(folder) as temporary:
            for index in numbers:
                for video in _write_subject(temporary, make_subject(seed, index, _MARGIN), index, repeats, seed):
                    videos.append(video)
                    on_progress(len(videos), len(numbers) * repeats * len(EMOTIONS))
            write_index(temporary, videos, _info(seed))
    except OSError as error:
        raise UserError(f"the embedded set cannot be written to {folder} ({error}); give another folder") from None
    return PreparedSet.open(path)


def render_video(subject_seed: int, emotion: str, frames: int, size: int) -> torch.Tensor:
    """Render a video of a whole head, for tests and demonstrations that start from plain frames.

    Args:
        subject_seed: seed of subject and motion; even seeds use the first photograph, odd seeds the second.
        emotion: one of `EMOTIONS`.
        frames: n, at least 8.
        size: width and height in pixels; the distance of the eyes is about a fifth of it.

    Returns:
        uint8 (n, size, size), grey.
    """
    subject = make_subject(subject_seed, subject_seed % 2, _HEAD)
    rng = np.random.default_rng([subject_seed, 2])
    motion = make_motion(rng, emotion, frames)
    scale = (FRAME + 2 * (_HEAD - 4)) / size
    grid = (pixel_grid(size, size) + 0.5) * scale - 0.5 - (_HEAD - 4)
    return render_frames(rng, subject, motion, moving_face(subject, motion).inverse(grid), size)


def embedded_order(video: Video) -> tuple[int | str, ...]:
    """Return a key that sorts embedded videos as they are generated."""
    emotion, _, number = video.name.rpartition("_")
    places = {name: place for place, name in enumerate(EMOTIONS)}
    place = int(number) if number.isdecimal() else 0, places.get(emotion, len(places)), video.name
    return len(video.subject), video.subject, *place


def _write_subject(folder: Path, subject: Subject, index: int, repeats: int, seed: int) -> Iterator[Video]:
    name_of_subject = f"{subject.name}-seed{seed}" if seed else subject.name
    for number, emotion in itertools.product(range(repeats), EMOTIONS):
        rng = np.random.default_rng([seed, 1, index, number, list(EMOTIONS).index(emotion)])
        frames = int(rng.integers(_FRAMES[0], _FRAMES[1] + 1))
        content = render_clip(rng, subject, make_motion(rng, emotion, frames), interval(frames))
        name = f"{emotion}_{number + 1}"
        file = folder / "videos" / name_of_subject / f"{name}.safetensors"
        yield write_video(file, *content, subject=name_of_subject, video=name, label=emotion, source=EMBEDDED, fps=FPS)


def _info(seed: int) -> dict[str, Any]:
    """Return the content of set.json: how the set was made."""
    return {
        "name": EMBEDDED,
        "generator": VERSION,
        "seed": seed,
        "versions": versions(("torch", "numpy", "scikit-image", "matplotlib")),
        "photographs": CREDITS,
        "note": "synthetic videos; scores on them say nothing about real micro-expressions",
    }
