"""Run one fold: train, or resume from a checkpoint, then score the held-out subjects once."""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric

from mol_fast.baselines import Fitted
from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.data.loading import content_digest, fingerprint, sources
from mol_fast.evaluation.score import evaluate, score
from mol_fast.explain.samples import explain_samples
from mol_fast.nn.model import MOL, Estimator
from mol_fast.nn.weights import FILE_NAME, save_weights
from mol_fast.runs.fold_results import ADVICE, FoldResults
from mol_fast.runs.folder import CONFIG, SCORES, STEPS, Fold
from mol_fast.runs.selection import Scoring, choose, read_scoring, scored_steps, write_scoring
from mol_fast.runs.step_log import StepLog
from mol_fast.training.balance import class_counts, missing_classes
from mol_fast.training.checkpoints import Checkpoints, Resumed
from mol_fast.training.fabric import fabric_precision
from mol_fast.training.folds import split_clips, split_inner
from mol_fast.training.inner import InnerChoice
from mol_fast.training.loop import LossNotFinite, train
from mol_fast.training.models import make_estimator
from mol_fast.training.parallel import first_alone, largest
from mol_fast.training.settings import TrainSettings
from mol_fast.training.start import freeze_parts, seen_subjects, start_from
from mol_fast.training.step import StepRecord
from mol_fast.utils.environment import bits_environment
from mol_fast.utils.errors import Stopped, UserError
from mol_fast.utils.files import file_sha256, write_atomic
from mol_fast.utils.lock import locked
from mol_fast.utils.sealed import sealed_json

_OF_THE_RUN = ("folds", "seeds")


def write_fold_config(
    folder: Path,
    settings: TrainSettings,
    precision: str,
    info: Mapping[str, Any],
    model: Mapping[str, Any],
    resumed: Sequence[Resumed] = (),
) -> None:
    """Write config.json to the folder of a fold. It repeats nothing, and does not mention machine, paths or time.

    Args:
        folder: folder of the fold.
        settings: settings of the training, with the seed of the fold.
        precision: precision of the training.
        info: plain values that are also saved with the weights: classes, protocol, subjects.
        model: configuration of the model, as plain values.
        resumed: resumes in another environment, which may have changed bits.
    """
    top = {"seed": settings.seed, "precision": precision, **info}
    told = {*top, *model, *_OF_THE_RUN}
    rest = {name: value for name, value in settings.identity().items() if name not in told}
    values = {**top, "settings": rest, "model": dict(model)}
    if resumed:
        values["resumed"] = msgspec.to_builtins(resumed)
    write_atomic(folder / CONFIG, sealed_json(values))


def run_fold(
    fold: Fold,
    videos: Sequence[Video],
    protocol: Protocol,
    settings: TrainSettings,
    fabric: Fabric,
    folder: Path,
    on_step: Callable[[StepRecord], None],
) -> None:
    """Train and score `fold` in `folder`, which is locked meanwhile. Skip a fold that is already finished.

    If the processes of `fabric` split batches, all of them call this; the first one locks, scores and writes.

    Raises:
        LossNotFinite: the loss is not finite. The weights before this step are in `folder`.
        Stopped: a signal stopped the run. The same call resumes from the checkpoint.
        Held: another process is training this fold.
    """
    first, by_test = fabric.is_global_zero, settings.selection == "test"
    with _claimed(fold, folder, fabric, by_test) as claimed:
        if not claimed:
            return
        if first:
            _forget_damaged(folder)
        settings = replace(settings, seed=fold.seed)
        clips, held_out = split_clips(fold, videos, protocol, settings.flip, settings.crops, settings.textures)
        info: dict[str, Any] = {
            "classes": list(protocol.classes),
            "preset": settings.preset,
            "protocol": protocol.name,
            "sources": sources(videos),
            "train_subjects": seen_subjects(settings.init, clips.subjects()),
            "test_subjects": held_out.subjects(),
            "spans": clips.spans(),
        }
        scored = scored_steps(settings.steps, settings.score_every) if settings.selection != "last" else []
        choice = None
        if settings.selection == "inner":
            clips, inner = split_inner(clips)
            choice = InnerChoice(folder, inner, scored)
            info["inner_subjects"] = inner.subjects()
        if first:
            _warn_of_missing(fold, class_counts(clips), protocol.classes)
        model = _new_model(settings, protocol, clips)
        if first:
            write_fold_config(folder, settings, fabric_precision(fabric), info, model.config.to_dict())

        def score_on_the_way(step: int) -> None:
            if first and choice:
                choice.score(model, step, fabric, settings.batch_size)
            elif first and step < settings.steps:
                write_scoring(folder, Scoring(step, evaluate(model, held_out, fabric, settings.batch_size)))
                model.train()

        labels = fingerprint(videos, "units" in settings.tasks)
        data = [info["classes"], info["test_subjects"], labels, content_digest(videos)]
        checkpoints = _checkpoints(folder, settings, fabric, data)
        _fit(model, clips, settings, fabric, folder, info, checkpoints, on_step, scored, score_on_the_way)
        if first:
            if choice:
                info["chosen_step"] = choice.restore(model)
                save_weights(folder / FILE_NAME, model, info | {"steps": info["chosen_step"]})
            if checkpoints.resumed or choice:
                model_values, resumed = model.config.to_dict(), checkpoints.resumed
                write_fold_config(folder, settings, fabric_precision(fabric), info, model_values, resumed)
            _score_the_kept(model, held_out, settings, fabric, folder, checkpoints.lines, scored if by_test else ())
            if choice:
                choice.forget()
        fabric.barrier()


@contextmanager
def _claimed(fold: Fold, folder: Path, fabric: Fabric, by_test: bool) -> Iterator[bool]:
    """Lock the folder of a fold for this training, and return whether there is anything to do."""
    first = fabric.is_global_zero

    def finished() -> bool:
        return bool(largest(fabric, int(first and _is_finished(folder, by_test))))

    with ExitStack() as stack:

        def lock() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / ".lock", f"the fold {fold.name} is being trained"))

        if finished():
            yield False
        else:
            first_alone(fabric, lock)
            yield not finished()  # by the holder of the lock before


def _is_finished(folder: Path, by_test: bool) -> bool:
    try:
        results = _read_finished(folder)
    except UserError:
        return False
    return results is not None and bool(results.chosen) == by_test


def _forget_damaged(folder: Path) -> None:
    """Remove the mark of a finished fold whose results or weights are damaged, and say so."""
    try:
        _read_finished(folder)
    except UserError as error:
        problem = str(error).removesuffix(f"; {ADVICE}")
        print(f"warning: {problem}; the fold is trained again", file=sys.stderr, flush=True)
        (folder / SCORES).unlink()


def _read_finished(folder: Path) -> FoldResults | None:
    """Return the results of a fold, None if it is not finished.

    Raises:
        UserError: the results or the weights are damaged or missing.
    """
    results = FoldResults.read(folder)
    if results is None:
        return None
    weights = folder / FILE_NAME
    try:
        checksum = file_sha256(weights)
    except OSError as error:
        raise UserError(f"{weights}: {(error.strerror or str(error)).lower()}; {ADVICE}") from None
    if results.weights is not None and checksum not in (results.weights, results.calibrated):
        raise UserError(f"{weights}: not the file that {SCORES} was written with; {ADVICE}")
    return results


def _checkpoints(folder: Path, settings: TrainSettings, fabric: Fabric, data: Sequence[Any]) -> Checkpoints:
    """Return the checkpoints of the fold in `folder`. `data` are values that identify its data."""
    identity = json.dumps([settings.identity(), fabric_precision(fabric), *data])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    environment = bits_environment(fabric.device)
    return Checkpoints(folder / "checkpoints", settings.checkpoint_every, digest, environment, fabric)


def _score_the_kept(
    model: Estimator,
    held_out: ClipDataset,
    settings: TrainSettings,
    fabric: Fabric,
    folder: Path,
    lines: list[str],
    scored: Sequence[int],
) -> None:
    """Score the weights that are kept, and write the results, which mark the fold as finished."""
    results = score(model, held_out, fabric, settings.batch_size)
    if isinstance(model, MOL):
        results = replace(results, samples=explain_samples(model, held_out, results.samples))
    if scored:
        write_scoring(folder, Scoring(settings.steps, results.evaluation))
        results = replace(results, chosen=choose([read_scoring(folder, step) for step in scored]))
    with StepLog(folder, lines, settings.steps) as log:
        log.add_scores(results.evaluation.compute().summary(), settings.steps)
    results = replace(results, weights=file_sha256(folder / FILE_NAME), steps=file_sha256(folder / STEPS))
    results.write(folder)
    try:
        FoldResults.read(folder)
    except UserError as error:
        raise UserError(f"the fold {folder.name} was written but cannot be read back: {error}") from error
    for path in (folder / "checkpoints").glob("*"):
        path.unlink(missing_ok=True)


def _new_model(settings: TrainSettings, protocol: Protocol, clips: ClipDataset) -> Estimator:
    """Draw the weights of a fold from its seed; landmarks start at the mean of its training clips."""
    torch.manual_seed(settings.seed)
    model = make_model(settings, protocol)
    if isinstance(model, MOL) and model.landmark_head is not None:
        model.landmark_head.start_at(clips.mean_landmarks())
    if isinstance(model, MOL) and settings.init is not None:
        start_from(model, settings.init, protocol)
    return model


def make_model(settings: TrainSettings, protocol: Protocol) -> Estimator:
    """Make the model of a run. Weights are drawn from PyTorch's global random state.

    Raises:
        UserError: an option of the model is not possible.
    """
    try:
        model = make_estimator(settings.model[0], settings.model_config(len(protocol.classes)))
    except ValueError as error:
        raise UserError(str(error)) from error
    if settings.freeze and isinstance(model, MOL):
        freeze_parts(model, settings.freeze)
    return model


def _warn_of_missing(fold: Fold, counts: Sequence[int], classes: Sequence[str]) -> None:
    missing = missing_classes(counts, classes)
    if missing:
        text = (
            f"without the held-out subjects of fold {fold.name} there is no clip of {', '.join(missing)} to learn from"
        )
        print(f"warning: {text}; training continues", file=sys.stderr, flush=True)


def _fit(
    model: Estimator,
    clips: ClipDataset,
    settings: TrainSettings,
    fabric: Fabric,
    folder: Path,
    info: dict[str, Any],
    checkpoints: Checkpoints,
    on_step: Callable[[StepRecord], None],
    scored: Sequence[int],
    on_scored: Callable[[int], None],
) -> None:
    if isinstance(model, Fitted):
        model.fit(clips, settings.seed)
        model.to(fabric.device)
        save_weights(folder / FILE_NAME, model, info | {"steps": 0})
        return
    log: StepLog | None = None

    def record(step: StepRecord) -> None:
        nonlocal log
        if not fabric.is_global_zero:
            return
        log = log or StepLog(folder, checkpoints.lines, step.step - 1)
        log.add(step.row())
        on_step(step)

    def save(steps: int) -> None:
        if fabric.is_global_zero:
            save_weights(folder / FILE_NAME, model, info | {"steps": steps})

    try:
        with checkpoints.watching():
            train(model, clips, settings, fabric, record, checkpoints, scored, on_scored)
        save(settings.steps)
    except LossNotFinite as error:
        save(error.step - 1)
        if checkpoints.signal is None:
            raise
    finally:
        if log:
            log.close()
    if checkpoints.signal is not None:
        raise Stopped(checkpoints.signal, f"stopped by {signal.Signals(checkpoints.signal).name} at the end")
