"""Write embedded long videos as a prepared set of recordings, to spot and recognise without licensed data."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.embedded.generate import EMBEDDED
from mol_fast.data.embedded.long_video import LongVideo, Scene, generate_long
from mol_fast.data.recordings import Movement, Recording, RecordingData, open_recordings, write_recording, write_tables
from mol_fast.data.store import Video, write_index, write_video
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.vision.sizes import PAIRS, interval


def generate_long_set(
    path: str | os.PathLike[str],
    subjects: Sequence[int] = tuple(range(20, 40)),
    seconds: float = 30.0,
    fps: float = 30.0,
    scene: Scene = "expressions",
    seed: int = 0,
    landmark_error: float = 0.3,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Recording]:
    """Generate a prepared set of one long video a subject in the new folder `path`, with the clips of its movements.

    Flow and landmarks of the clips are exact. Landmarks of the recordings have an error, as if they were found.
    30 seconds at 30 frames per second take about 20 seconds and 20 MB.

    Args:
        path: folder of the set, new or empty.
        subjects: numbers of the subjects; the embedded set of clips has 0 to 11, and larger ones from 100 on, too.
        seconds, fps, scene, seed: see `generate_long`.
        landmark_error: standard deviation of the error of the recordings' landmarks, in pixels.
        on_progress: called after each video with (videos done, all videos).

    Returns:
        Its recordings.

    Raises:
        UserError: the folder is not empty or cannot be written, or scikit-image or matplotlib is missing.
        ValueError: an argument is out of range, or a subject is repeated.
    """
    folder = Path(path)
    if len(set(subjects)) < len(subjects) or not subjects:
        raise ValueError("subjects must be different numbers, at least one")
    recordings: list[Recording] = []
    videos: list[Video] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"the folder {folder} is not empty; give a new one")
        for done, number in enumerate(subjects, start=1):
            video = generate_long(number, scene, seconds, fps, seed)
            recordings.append(_write(folder, video, landmark_error))
            videos += _write_clips(folder, video, recordings[-1])
            on_progress(done, len(subjects))
        write_tables(folder, recordings)
        info = {
            "name": f"{EMBEDDED}-long",
            "source": EMBEDDED,
            "recordings": len(recordings),
            "seed": seed,
            "versions": versions(("torch", "numpy", "scikit-image", "matplotlib")),
            "note": "synthetic videos; scores on them say nothing about real micro-expressions",
        }
        write_index(folder, videos, info)
    except OSError as error:
        raise UserError(f"the set cannot be written to {folder} ({error}); give another folder") from None
    return open_recordings(folder)


def _write(folder: Path, video: LongVideo, landmark_error: float) -> Recording:
    name = video.subject.name
    rng = np.random.default_rng(video.seed)
    file = folder / "recordings" / name / f"{video.name}.safetensors"

    def parts() -> Iterator[RecordingData]:
        for chunk in video.chunks():
            numbers = torch.arange(chunk.first, chunk.first + len(chunk.frames))
            alignment = torch.eye(2, 3, dtype=torch.float64).repeat(len(numbers), 1, 1)
            error = torch.from_numpy(rng.normal(0, landmark_error, chunk.landmarks.shape)).float()
            yield RecordingData(
                chunk.frames, chunk.landmarks + error, numbers, torch.from_numpy(chunk.times), alignment
            )

    write_recording(file, parts(), subject=name, recording=video.name, source=EMBEDDED)
    movements = tuple(map(Movement, video.intervals))
    return Recording(name, video.name, EMBEDDED, 0, video.frames, video.fps, file, movements)


def _write_clips(folder: Path, video: LongVideo, recording: Recording) -> Iterator[Video]:
    data = recording.read()
    for span in recording.intervals:
        rows = data.rows(span.onset, span.offset)
        frames = data.frames[rows]
        step = interval(len(frames))
        pairs = range(rows.start, rows.start + PAIRS * step)
        flow: Tensor = torch.stack([video.flow(first, first + step) for first in pairs]).half()
        name, label = f"{video.name}_{span.kind}_{span.onset}", str(span.label)
        file = folder / "videos" / recording.subject / f"{name}.safetensors"
        content = frames, video.landmarks(rows.start, rows.stop), flow
        subject = recording.subject
        yield write_video(file, *content, subject=subject, video=name, label=label, source=EMBEDDED, fps=video.fps)
