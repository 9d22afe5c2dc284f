"""The log of a leave-one-subject-out evaluation, as in the Micro-Expression Grand Challenge of 2019.

    casme2 sub01
    EP02_01f 1 1
    EP19_05f 0 0

The log holds every prediction, so scores can be computed from it again. A line names the set and the held-out subject;
then follows a line per video: name, true class, predicted class. Classes are 0 negative, 1 positive, 2 surprise.
Published logs of entrants have this form, but differ in the order of the two classes. The organisers' description could
not be found: compare with it before you submit a log. megc2019.csv holds the same as a table.
"""

from collections.abc import Iterable

from mol_fast.runs.fold_results import FoldResults


def fold_log(folds: Iterable[FoldResults], sources: int) -> str:
    """Return the log of folds, one block per held-out subject.

    Classes are numbered from 0 in the order of the protocol. The first line of a block names the subject; it names the
    source, too, if there are several `sources`.
    """
    lines = []
    for fold in folds:
        held_out = None
        for video in fold.evaluation.videos():
            subject = video.video.person
            if subject != held_out:
                lines.append(" ".join(subject if sources > 1 else subject[1:]))
                held_out = subject
            lines.append(f"{video.video.name} {video.label} {video.predicted}")
    return "\n".join(lines) + "\n"
