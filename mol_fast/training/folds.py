"""Make the folds of a run: held-out subjects and seeds."""

from collections import Counter
from collections.abc import Sequence

from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.runs.folder import Fold
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError


def make_folds(videos: Sequence[Video], settings: TrainSettings) -> list[Fold]:
    """Return the folds of `settings`, seed by seed.

    Raises:
        UserError: `videos` lack a subject, no subject is left to train or test on, or two folds would share a folder.
    """
    subjects = sorted({video.subject for video in videos if video.interval})
    if settings.folds and settings.test_subjects:
        raise UserError("--folds and --test-subjects cannot be combined: give one of them")
    held_out: list[tuple[str, ...]]
    if settings.folds == ("all",):
        held_out = [(subject,) for subject in subjects]
    elif "all" in settings.folds:
        raise UserError("--folds all already holds out every subject: give either all or names of subjects")
    elif settings.folds:
        held_out = [(subject,) for subject in dict.fromkeys(settings.folds)]
    else:
        held_out = [tuple(dict.fromkeys(settings.test_subjects)) or tuple(subjects[-2:])]
    unknown = sorted({subject for part in held_out for subject in part} - set(subjects))
    if unknown:
        raise UserError(f"there is no subject {', '.join(unknown)} in the data: it has {', '.join(subjects)}")
    for part in held_out:
        if not part or not set(subjects) - set(part):
            raise UserError(
                f"{len(part)} of {len(subjects)} subjects are held out: none is left to train or to test on; "
                "choose other subjects with --test-subjects or --folds"
            )
    folders = Counter(Fold(part, 0).name.casefold() for part in held_out)
    shared = [", ".join(part) for part in held_out if folders[Fold(part, 0).name.casefold()] > 1]
    if shared:
        raise UserError(f"the subjects {' and '.join(shared)} would share a folder: rename one of them")
    return [Fold(part, settings.seed + number) for number in range(settings.seeds) for part in held_out]


def split_clips(fold: Fold, videos: Sequence[Video], protocol: Protocol) -> tuple[ClipDataset, ClipDataset]:
    """Return training clips (random crops, mirrored) and test clips (centre crops of the held-out subjects)."""
    train = [video for video in videos if video.subject not in fold.subjects]
    test = [video for video in videos if video.subject in fold.subjects]
    return ClipDataset(train, protocol, "random", True, fold.seed), ClipDataset(test, protocol)
