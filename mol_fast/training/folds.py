"""Make the folds of a run: held-out subjects and seeds."""

from collections.abc import Sequence

from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.runs.folder import Fold
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, find_subjects


def make_folds(videos: Sequence[Video], settings: TrainSettings) -> list[Fold]:
    """Return the folds of `settings`, seed by seed.

    Raises:
        UserError: `videos` lack a subject, or no subject is left to train or test on.
    """
    subjects = sorted({video.id.person for video in videos if video.interval})
    if settings.folds and settings.test_subjects:
        raise UserError("--folds and --test-subjects cannot be combined: give one of them")
    held_out: list[tuple[Subject, ...]]
    if settings.folds == ("all",):
        held_out = [(subject,) for subject in subjects]
    elif "all" in settings.folds:
        raise UserError("--folds all already holds out every subject: give either all or names of subjects")
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
    sources = len({subject.source for subject in subjects})
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [Fold.of(part, seed, sources) for seed in seeds for part in held_out]


def split_clips(fold: Fold, videos: Sequence[Video], protocol: Protocol) -> tuple[ClipDataset, ClipDataset]:
    """Return training clips (random crops, mirrored) and test clips (centre crops of the held-out subjects)."""
    train = [video for video in videos if video.id.person not in fold.subjects]
    test = [video for video in videos if video.id.person in fold.subjects]
    return ClipDataset(train, protocol, "random", True, fold.seed), ClipDataset(test, protocol)
