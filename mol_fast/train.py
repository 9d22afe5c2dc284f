"""The program that trains a model and scores held-out subjects: `python -m mol_fast.train`."""

import shlex
import signal
import sys
import time
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mol_fast.cli import Advance, progress, run_program
from mol_fast.data import Protocol, Video
from mol_fast.data.loading import check_flow, check_videos, data_folders, fingerprint, open_data, sources
from mol_fast.training.fabric import fabric_precision, make_fabric
from mol_fast.training.models import is_baseline, reads_flow
from mol_fast.training.parallel import Meeting, check_processes, concludes, first_alone, own_share, part, splits_batches
from mol_fast.training.settings import TrainSettings, recipe_of
from mol_fast.utils.errors import FoldsFailed, Stopped, Terminated, UserError
from mol_fast.utils.memory import keep_memory
from mol_fast.utils.names import LONGEST_NAME, label_subjects, safe_folder
from mol_fast.utils.processes import world_size

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from mol_fast.runs.folder import Fold
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
    if len(settings.model) > 1:
        _run_models(settings)
    else:
        _run_model(settings.of_model(settings.model[0]))


def _run_models(settings: TrainSettings) -> None:
    """Train each model as a run of its own in OUT/NAME, and write their table there."""
    from mol_fast.report.paper_table import paper_table
    from mol_fast.runs.folder import CONFIG
    from mol_fast.runs.stored import read_run

    path = settings.out / (settings.name or f"models-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    if (path / CONFIG).exists():
        raise UserError(f"{path} is the run of one model: choose another --name for several")
    for model in settings.model:
        started = time.monotonic()
        print(f"model {model}", flush=True)
        _run_model(replace(settings.of_model(model), out=path, name=model))
        print(f"model {model} took {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    table = paper_table([read_run(path / model) for model in settings.model])
    table.write(path)
    print(table.markdown(), end="")
    print(f"written to {path}: table.md, table.tex, and a folder for each model", flush=True)


def _run_model(settings: TrainSettings) -> None:
    """Train one model on all folds and score it, in OUT/NAME."""
    from mol_fast.nn.model import MOL
    from mol_fast.runs.folder import open_run
    from mol_fast.training.fold import make_model
    from mol_fast.training.folds import check_units, make_folds
    from mol_fast.training.start import check_start
    from mol_fast.utils.environment import environment

    fabric = make_fabric(settings.device, settings.precision, splits_batches(settings))
    with progress() as begin:
        made = begin("making the videos")
        data, tested = (data_folders(part, settings.data_dir, made) for part in (settings.data, settings.test_data))
        settings = replace(settings, data=data, test_data=tested)
        videos, protocol = open_data(settings.every_data(), settings.protocol, settings.data_dir, made)
    model = make_model(settings, protocol)
    folds = make_folds(videos, settings)
    if isinstance(model, MOL) and "units" in model.config.tasks:
        check_units(folds, videos)
    if settings.init is not None:
        check_start(settings.init, model, folds, protocol)
    subjects = list(label_subjects(video.id.person for video in videos).values())
    with progress() as begin:
        check_videos(videos, begin("checking the videos"))
    if reads_flow(settings.model[0]):
        check_flow(videos, f"--model {settings.model[0]}")
    started = datetime.now().astimezone()
    path = settings.out / (settings.name or _name(videos, started))
    about = {
        "settings": asdict(settings),
        "model": model.config.to_dict(),
        "sources": sources(videos),
        "folds": msgspec.to_builtins(folds),
        "environment": environment(fabric.device),
    }
    identity = {
        **settings.identity(),
        "precision": fabric_precision(fabric),
        "protocol": protocol.name,
        "videos": len(videos),
        "subjects": subjects,
        "labels": fingerprint(videos, "units" in settings.tasks),
    }
    first_alone(fabric, lambda: open_run(path, about, identity))
    if fabric.is_global_zero:
        trainings = "1 fold" if len(folds) == 1 else f"{len(folds)} folds"
        print(f"{len(videos)} videos of {len(subjects)} subjects, {trainings}, in {path}", flush=True)
    meeting = Meeting(settings)
    failed = meeting.gather(_run_folds(own_share(folds, settings), videos, protocol, settings, fabric, path))
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
    folds: list["Fold"], videos: list[Video], protocol: Protocol, settings: TrainSettings, fabric: "Fabric", path: Path
) -> list[str]:
    """Train `folds`, and return messages about those whose loss was not finite."""
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
                raise Stopped(stop.number, f"{stop} of fold {fold.name}: {_resume(path)}") from stop
            except KeyboardInterrupt as stop:  # before the first step, or while the held-out subjects are scored
                number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
                raise Stopped(number, f"stopped by {number.name} in fold {fold.name}: {_resume(path)}") from stop
    return failed


def _resume(path: Path) -> str:
    return f"resume with the same command and --name {path.name}"


def _show(advance: Advance, step: "StepRecord") -> None:
    row = step.row()
    terms = (f"{name} {row[name]:.4f}" for name in ("expression", "flow", "landmarks", "units") if name in row)
    advance(step.step, note=" ".join(terms))


def _check_failed(failed: list[str], folds: int, path: Path) -> None:
    if failed:
        kind = UserError if folds == 1 else FoldsFailed
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
            raise UserError(
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
