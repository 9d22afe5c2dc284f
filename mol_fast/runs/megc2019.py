"""The log per fold of a leave-one-subject-out evaluation, as in the Micro-Expression Grand Challenge of 2019.

    casme2 sub01
    EP02_01f 1 1
    EP19_05f 0 0

It holds every prediction, so that the scores can be computed again from it. Logs that entrants published agree in this
much: a line that names the set and the subject held out, then a line per video with its name and two classes as
numbers, 0 negative, 1 positive, 2 surprise. They differ in which of the two comes first; here it is the true class,
then the predicted one. The organisers' own description of the log could not be found: compare with it before a log is
handed in. megc2019.csv has the same as a table.
"""

from collections.abc import Iterable

from mol_fast.runs.fold_results import FoldResults


def fold_log(folds: Iterable[FoldResults]) -> str:
    """The log of some folds: a block per subject held out, the set before the subject where several sets are joined.

    Classes are numbered from 0 in the order of the protocol; sets of one name only have the subject in the first line.
    """
    lines = []
    for fold in folds:
        held_out = ""
        for video in fold.evaluation.videos():
            subject, _, name = str(video.video).rpartition("/")
            if subject != held_out:
                lines.append(subject.replace("/", " "))
                held_out = subject
            lines.append(f"{name} {video.label} {video.predicted}")
    return "\n".join(lines) + "\n"
