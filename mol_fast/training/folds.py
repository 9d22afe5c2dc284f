"""Make the folds of a run: held-out subjects and seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.data.loading import sources
from mol_fast.runs.folder import Fold
from mol_fast.training.inner import inner_subjects
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, find_subjects, label_subjects
from mol_fast.vision.facs import UNKNOWN, unit_truth


def make_folds(videos: Sequence[Video], settings: TrainSettings) -> list[Fold]:
    """Return the folds of `settings`, seed by seed.

    Raises:
        UserError: `videos` lack a subject, or no subject is left to train or test on.
    """
    subjects = sorted({video.id.person for video in videos if video.interval})
    given = [name for name in ("folds", "test_subjects", "test_data") if getattr(settings, name)]
    if len(given) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{options} cannot be combined: give one of them")
    seeds = range(settings.seed, settings.seed + settings.seeds)
    if settings.test_data or settings.folds == ("data",):
        parts = _of_data(videos, subjects, settings)
        return [Fold.of_sets(names, of, seed) for seed in seeds for names, of in parts.items()]
    held_out: list[tuple[Subject, ...]]
    if settings.folds == ("all",):
        held_out = [(subject,) for subject in subjects]
    elif every := {"all", "data"} & {*settings.folds}:
        raise UserError(f"--folds {min(every)} holds out everything in turn: give it alone, or names of subjects")
    elif settings.folds:
        held_out = [(subject,) for subject in find_subjects(settings.folds, subjects)]
    else:
        held_out = [find_subjects(settings.test_subjects, subjects) or tuple(subjects[-2:])]
    for part in held_out:
        if not part or not set(subjects) - set(part):
            raise UserError(
                f"{len(part)} of {len(subjects)} subjects are held out: none is left to train or to test on; "
                "choose other subjects with --test-subjects or --folds"
            )
    count = len({subject.source for subject in subjects})
    return [Fold.of(part, seed, count) for seed in seeds for part in held_out]


def _of_data(
    videos: Sequence[Video], subjects: Sequence[Subject], settings: TrainSettings
) -> dict[tuple[str, ...], tuple[Subject, ...]]:
    """Return the subjects to hold out together, by sources: those of the test data, or of each source in turn."""
    if not settings.test_data:
        parts: dict[tuple[str, ...], tuple[Subject, ...]] = {
            (name,): tuple(item for item in subjects if item.source == name) for name in sources(videos)
        }
        if len(parts) < 2:
            raise UserError(
                f"--folds data holds out one set after the other, but there is only {min(parts)[0]}: give more"
            )
        return parts
    tested: set[Subject] = set()
    trained: set[Subject] = set()
    for video in videos:
        of = tested if _folder(video, settings.every_data()) in settings.test_data else trained
        of.add(video.id.person)
    if both := sorted(tested & trained):
        names = ", ".join(label_subjects(both).values())
        raise UserError(f"subjects are in --data and in --test-data: {names}; train and test on different people")
    if not trained & set(subjects):
        raise UserError("--test-data has all videos, none is left to train on: give other sets with --data")
    if not tested & set(subjects):
        raise UserError("--test-data has no video of the protocol: give other sets, or another --protocol")
    return {tuple(sorted({subject.source for subject in tested})): tuple(sorted(tested & set(subjects)))}


def _folder(video: Video, folders: Sequence[Path]) -> Path:
    """Return the folder that a video was opened from; one set may lie in the folder of another."""
    return max((path for path in folders if video.path.is_relative_to(path)), key=lambda path: len(path.parts))


def check_units(folds: Sequence[Fold], videos: Sequence[Video]) -> None:
    """Check that every fold has action units to learn.

    Raises:
        UserError: no video to train on tells its action units.
    """
    annotated = {video.id.person for video in videos if set(unit_truth(video.action_units)) != {UNKNOWN}}
    for fold in folds:
        if not annotated - set(fold.subjects):
            raise UserError(
                f"--tasks has units, but no video to train on in fold {fold.name} tells its action units in index.csv: "
                "give sets that do, such as --data heads or a release whose sheet names them, or leave units out"
            )


def check_inner(folds: Sequence[Fold], videos: Sequence[Video]) -> None:
    """Check that every fold has training subjects to choose a step on, and others to train on.

    Raises:
        UserError: a fold has only one training subject.
    """
    for fold in folds:
        inner_subjects(sorted({video.id.person for video in videos if video.interval} - {*fold.subjects}), fold.seed)


def split_clips(
    fold: Fold,
    videos: Sequence[Video],
    protocol: Protocol,
    flip: bool = True,
    crops: int = 1,
    textures: float = 0.0,
) -> tuple[ClipDataset, ClipDataset]:
    """Return clips to train on and to test on.

    Args:
        fold: it names the held-out subjects; the clips of all others are random crops.
        videos: all videos.
        protocol: maps their labels to classes.
        flip: mirror half of the training clips.
        crops: number of random crops of each clip to test on; 1 for the centre crop.
        textures: share of the training clips that get another texture.
    """
    train = [video for video in videos if video.id.person not in fold.subjects]
    test = [video for video in videos if video.id.person in fold.subjects]
    crop: Literal["random", "center"] = "random" if crops > 1 else "center"
    tested = ClipDataset(test, protocol, crop, seed=fold.seed, crops=crops)
    return ClipDataset(train, protocol, "random", flip, fold.seed, textures=textures), tested


def split_inner(clips: ClipDataset) -> tuple[ClipDataset, ClipDataset]:
    """Return the training `clips` without some subjects, and the clips of these subjects, to choose a step on.

    Raises:
        UserError: there is only one training subject.
    """
    chosen = inner_subjects(clips.subjects(), clips.seed)
    rest = [video for video in clips.videos if video.id.person not in chosen]
    inner = [video for video in clips.videos if video.id.person in chosen]
    kept = ClipDataset(rest, clips.protocol, "random", clips.flip, clips.seed, textures=clips.textures)
    return kept, ClipDataset(inner, clips.protocol)
