"""The program that trains a model and scores held-out subjects: `python -m mol_fast.train`."""

import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mol_fast.cli import Advance, progress, run_program
from mol_fast.data import Protocol, Video
from mol_fast.data.loading import (
    check_flow,
    check_videos,
    content_digest,
    data_folders,
    fingerprint,
    open_data,
    sources,
)
from mol_fast.training.fabric import fabric_precision, make_fabric
from mol_fast.training.models import MODELS, is_baseline, reads_flow
from mol_fast.training.parallel import Meeting, check_processes, concludes, first_alone, own_share, part, splits_batches
from mol_fast.training.settings import TrainSettings, recipe_of
from mol_fast.utils.errors import FoldsFailed, Stopped, Terminated, Unfinished, UserError
from mol_fast.utils.memory import keep_memory
from mol_fast.utils.names import LONGEST_NAME, label_subjects, safe_folder
from mol_fast.utils.processes import world_size

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from mol_fast.runs.folder import Fold
    from mol_fast.runs.stored import StoredRun
    from mol_fast.training.step import StepRecord


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    keep_memory()
    defaults = recipe_of(argv)

    def program(settings: TrainSettings = defaults) -> None:
        run(settings)

    program.__doc__ = run.__doc__
    return run_program(program, argv, "train", "train")


def run(settings: TrainSettings) -> None:
    """Train micro-expression, optical flow and landmarks jointly, then score the held-out subjects.

    By default, the data are the embedded synthetic set, which is generated on first use. Held-out subjects are used
    only for the final scores. OUT/NAME receives config.json, scores.json, predictions.csv, folds.csv, megc2019.csv,
    megc2019.log and report.html, and a folder per fold with config.json, metrics.csv, TensorBoard events,
    weights.safetensors and predictions of windows. The same command resumes an interrupted run; finished folds are not
    repeated.

    Raises:
        UserError: an option cannot be used, or the loss of the only fold is not finite.
        FoldsFailed: the loss of one of several folds is not finite; the other folds are finished.
    """
    settings.check()
    check_processes(settings)
    fabric = make_fabric(settings.device, settings.precision, splits_batches(settings))
    with progress() as begin:
        made = begin("making the videos")
        data, tested = (data_folders(part, settings.data_dir, made) for part in (settings.data, settings.test_data))
        settings = replace(settings, data=data, test_data=tested)
        videos, protocol = open_data(settings.every_data(), settings.protocol, settings.data_dir, made)
    runs = [_check(settings.of_model(name), videos, protocol) for name in settings.model]
    with progress() as begin:
        check_videos(videos, begin("checking the videos"))
    for name in settings.model:
        if reads_flow(name):
            check_flow(videos, f"--model {name}")
    if len(runs) > 1:
        _train_models(runs, settings, fabric)
    else:
        _train_model(runs[0], fabric)


@dataclass(frozen=True)
class _Run:
    """A run of one model whose options are checked.

    Attributes:
        settings: its settings.
        videos, protocol: its data.
        folds: its folds.
        model: configuration of the model, as plain values.
    """

    settings: TrainSettings
    videos: list[Video]
    protocol: Protocol
    folds: list["Fold"]
    model: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.settings.model[0]

    def about(self, fabric: "Fabric") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the content of config.json, and what a resumed run must share."""
        from mol_fast.utils.environment import environment

        about = {
            "settings": asdict(self.settings),
            "model": self.model,
            "sources": sources(self.videos),
            "folds": msgspec.to_builtins(self.folds),
            "environment": environment(fabric.device),
        }
        identity = {
            **self.settings.identity(),
            "precision": fabric_precision(fabric),
            "protocol": self.protocol.name,
            "videos": len(self.videos),
            "subjects": list(label_subjects(video.id.person for video in self.videos).values()),
            "labels": fingerprint(self.videos, "units" in self.settings.tasks),
            "content": content_digest(self.videos),
        }
        return about, identity


def _check(settings: TrainSettings, videos: list[Video], protocol: Protocol) -> _Run:
    """Check that one model can be trained and started as the options say, before a long work begins."""
    from mol_fast.nn.model import MOL
    from mol_fast.training.fold import make_model
    from mol_fast.training.folds import check_inner, check_units, make_folds
    from mol_fast.training.start import check_start

    model = make_model(settings, protocol)
    folds = make_folds(videos, settings)
    if settings.selection == "inner":
        check_inner(folds, videos)
    if isinstance(model, MOL):
        if "units" in model.config.tasks:
            check_units(folds, videos)
        if settings.init is not None:
            check_start(settings.init, model, folds, protocol)
    return _Run(settings, videos, protocol, folds, model.config.to_dict())


def _train_models(runs: list[_Run], settings: TrainSettings, fabric: "Fabric") -> None:
    """Train each model as a run of its own in OUT/NAME, and write the table of all finished runs there."""
    from mol_fast.report.paper_table import paper_table
    from mol_fast.runs.folder import CONFIG, open_run

    path = settings.out / (settings.name or f"models-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    if (path / CONFIG).exists():
        raise UserError(f"{path} is the run of one model: choose another --name for several")
    for run in runs:  # before a long work begins
        if (path / run.name / CONFIG).exists():
            open_run(path / run.name, *run.about(fabric))
    table, finished = None, set[str]()
    for run in runs:
        started = time.monotonic()
        print(f"model {run.name}", flush=True)
        try:
            _train_model(run, fabric, path)
        except Unfinished as error:
            print(f"warning: model {run.name} is not finished: {error}", file=sys.stderr, flush=True)
        else:
            print(f"model {run.name} took {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
        stored, left_out = _comparable(path, [run.name for run in runs])
        if stored:
            table = paper_table(stored, left_out)
            table.write(path)
            finished = {one.path.name for one in stored}
    if table is not None:
        print(table.markdown(), end="")
        for note in table.notes:
            print(f"warning: {note}", file=sys.stderr, flush=True)
        print(f"written to {path}: table.md, table.tex, and a folder for each model", flush=True)
    if missing := [name for name in settings.model if name not in finished]:
        raise FoldsFailed(
            f"{len(missing)} of {len(runs)} models are not finished ({', '.join(missing)}), see above: repeat the "
            "command to train what is missing"
        )


def _comparable(path: Path, own: Sequence[str]) -> tuple[list["StoredRun"], list[str]]:
    """Return the finished runs in a folder of several models, and why some cannot be compared with `own` ones."""
    from mol_fast.report.paper_table import check_together
    from mol_fast.runs.stored import read_models

    stored, _ = read_models(path, MODELS)
    mine = [run for run in stored if run.path.name in own]
    kept, left_out = [], []
    for run in stored if mine else ():
        try:
            check_together([run] if run is mine[0] else [mine[0], run])
        except UserError as error:
            left_out.append(f"{error}; the table is without {run.path.name}")
        else:
            kept.append(run)
    return kept, left_out


def _train_model(run: _Run, fabric: "Fabric", models: Path | None = None) -> None:
    """Train one model on all folds and score it, in OUT/NAME, or in a folder of several `models`."""
    from mol_fast.runs.folder import open_run

    settings, videos, protocol, folds = run.settings, run.videos, run.protocol, run.folds
    started = datetime.now().astimezone()
    path = models / run.name if models else settings.out / (settings.name or _name(videos, started))
    about, identity = run.about(fabric)
    first_alone(fabric, lambda: open_run(path, about, identity))
    if fabric.is_global_zero:
        trainings = "1 fold" if len(folds) == 1 else f"{len(folds)} folds"
        print(f"{len(videos)} videos of {len(identity['subjects'])} subjects, {trainings}, in {path}", flush=True)
    meeting = Meeting(settings)
    own, resume = own_share(folds, settings), f"resume with the same command and --name {(models or path).name}"
    failed = meeting.gather(_run_folds(own, videos, protocol, settings, fabric, path, resume))
    try:
        if concludes(settings):
            _check_failed(failed, len(folds), path)
            if _conclude(folds, path, about, f"{started:%Y-%m-%d %H:%M}"):
                _tell_of_recordings(settings, path)
    finally:
        meeting.end()
        part(fabric)


def _name(videos: list[Video], started: datetime) -> str:
    """Return the default name of a run: data, date and time."""
    return f"{safe_folder('-'.join(sources(videos)), LONGEST_NAME)}-{started:%Y%m%d-%H%M%S}"


def _run_folds(
    folds: list["Fold"],
    videos: list[Video],
    protocol: Protocol,
    settings: TrainSettings,
    fabric: "Fabric",
    path: Path,
    resume: str,
) -> list[str]:
    """Train `folds`, and return messages about those whose loss was not finite. `resume` says how to resume."""
    from mol_fast.runs.folder import fold_folder
    from mol_fast.training.fold import run_fold
    from mol_fast.training.loop import LossNotFinite
    from mol_fast.utils.lock import Held

    failed = []
    with progress("step", every=50) as begin:
        for number, fold in enumerate(folds, start=1):
            advance = begin(f"fold {number}/{len(folds)} {fold.name}", settings.steps)
            try:
                run_fold(fold, videos, protocol, settings, fabric, fold_folder(path, fold), partial(_show, advance))
            except LossNotFinite as error:
                failed.append(f"step {error.step} of fold {fold.name}")
            except Held as held:
                if splits_batches(settings):
                    raise
                print(f"warning: {held}; this process leaves the fold to it", file=sys.stderr, flush=True)
            except Stopped as stop:
                raise Stopped(stop.number, f"{stop} of fold {fold.name}: {resume}") from stop
            except KeyboardInterrupt as stop:  # before the first step, or while the held-out subjects are scored
                number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
                raise Stopped(number, f"stopped by {number.name} in fold {fold.name}: {resume}") from stop
    return failed


def _show(advance: Advance, step: "StepRecord") -> None:
    row = step.row()
    terms = (f"{name} {row[name]:.4f}" for name in ("expression", "flow", "landmarks", "units") if name in row)
    advance(step.step, note=" ".join(terms))


def _check_failed(failed: list[str], folds: int, path: Path) -> None:
    if failed:
        kind = Unfinished if folds == 1 else FoldsFailed
        raise kind(
            f"the loss is not finite at {', '.join(failed)}; the weights before it are in {path}: "
            "look for broken values in the data, or lower --lr"
        )


def _tell_of_recordings(settings: TrainSettings, path: Path) -> None:
    """Say how to score the spotting of the sets that have long videos."""
    from mol_fast.data.store import read_info

    for folder in () if is_baseline(settings.model[0]) else settings.every_data():
        if read_info(folder).recordings:
            command = shlex.join(["--spotting", str(folder), "--weights", str(path)])
            print(f"{folder} has long videos: python -m mol_fast.evaluate {command}")


def _conclude(folds: list["Fold"], path: Path, about: dict[str, Any], date: str) -> bool:
    """Write scores and report once all folds are finished; the last of several processes does it.

    Returns:
        Whether they are written.
    """
    from mol_fast.report.run import write_run_report
    from mol_fast.report.terminal import print_scores
    from mol_fast.runs.fold_results import FoldResults
    from mol_fast.runs.folder import fold_folder
    from mol_fast.runs.pooled import PooledResults
    from mol_fast.training.temperatures import store_temperatures

    results = {fold: FoldResults.read(fold_folder(path, fold)) for fold in folds}
    finished = {fold: result for fold, result in results.items() if result is not None}
    if len(finished) < len(folds):
        if world_size() == 1:
            missing = ", ".join(fold.name for fold in folds if fold not in finished)
            raise Unfinished(
                f"{path} lacks the results of {missing}: repeat the command once no other process trains them, "
                "to train what is missing and write the scores"
            )
        print(f"{len(finished)} of {len(folds)} folds are finished, other processes train the rest", flush=True)
        return False
    pooled = PooledResults(finished)
    store_temperatures(path, pooled)
    pooled.write(path)
    write_run_report(path, pooled, about, date)
    print_scores(pooled)
    print(f"written to {path}: open {path / 'report.html'}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
