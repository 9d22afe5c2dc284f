"""One fold from start to end: train, or go on from a checkpoint, then score the subjects held out once."""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from mol_fast.balance import class_counts, missing_classes
from mol_fast.checkpoints import Checkpoints
from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.data.loading import fingerprint, sources
from mol_fast.device import fabric_precision
from mol_fast.fold_config import write_fold_config
from mol_fast.fold_results import FoldResults
from mol_fast.folds import Fold
from mol_fast.metrics import Evaluation, Scores
from mol_fast.model import MOL, MOLOutput
from mol_fast.parallel import largest
from mol_fast.report import Sample
from mol_fast.selection import Scoring, choose, read_scoring, scored_steps, write_scoring
from mol_fast.settings import TrainSettings
from mol_fast.step_log import StepLog
from mol_fast.step_record import StepRecord
from mol_fast.training import Batch, LossNotFinite, evaluate, train
from mol_fast.utils.errors import Stopped, UserError
from mol_fast.weights import FILE_NAME, save_weights

SAMPLES = 6


def run_fold(
    fold: Fold,
    videos: Sequence[Video],
    protocol: Protocol,
    settings: TrainSettings,
    fabric: Fabric,
    folder: Path,
    on_step: Callable[[StepRecord], None],
) -> None:
    """Train and score `fold` in `folder`; nothing is done for one that is finished there.

    Where the processes of `fabric` split the batches, all call this; the first one scores and writes.

    Raises:
        LossNotFinite: the weights before that step are in `folder`.
        Stopped: a signal came; the same call goes on from the checkpoint that was written.
    """
    by_test = settings.selection == "test"
    first = fabric.is_global_zero
    finished = FoldResults.read(folder) if first else None
    if largest(fabric, int(finished is not None and bool(finished.chosen) == by_test)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    settings = replace(settings, seed=fold.seed)
    clips, held_out = fold.split(videos, protocol)
    if first:
        _warn_of_missing(fold, class_counts(clips), protocol.classes)
    torch.manual_seed(settings.seed)
    model = make_model(settings, protocol)
    if model.landmark_head is not None:
        model.landmark_head.start_at(clips.mean_landmarks())
    info = {
        "classes": list(protocol.classes),
        "preset": settings.preset,
        "protocol": protocol.name,
        "sources": sources(videos),
        "train_subjects": clips.full_subjects(),
        "test_subjects": held_out.full_subjects(),
    }
    if first:
        write_fold_config(folder, settings, fabric_precision(fabric), info, model.config)
    scored = scored_steps(settings.steps, settings.score_every) if by_test else ()

    def score_on_the_way(step: int) -> None:
        if first and step < settings.steps:
            write_scoring(folder, Scoring(step, evaluate(model, held_out, fabric, settings.batch_size)))
            model.train()

    _fit(model, clips, settings, fabric, folder, info, fingerprint(videos), on_step, scored, score_on_the_way)
    if first:
        _score_the_last(model, held_out, settings, fabric, folder, scored)
    fabric.barrier()


def _score_the_last(
    model: MOL, held_out: ClipDataset, settings: TrainSettings, fabric: Fabric, folder: Path, scored: Sequence[int]
) -> None:
    """Score the weights of the last step, and write what makes the fold finished."""
    results = score(model, held_out, fabric, settings.batch_size)
    if scored:
        write_scoring(folder, Scoring(settings.steps, results.evaluation))
        results = replace(results, chosen=choose([read_scoring(folder, step) for step in scored]))
    with StepLog(folder, settings.steps) as log:
        log.add_scores(summary(results.evaluation.compute()), settings.steps)
    results.write(folder)
    for path in (folder / "checkpoints").glob("*"):
        path.unlink(missing_ok=True)


def make_model(settings: TrainSettings, protocol: Protocol) -> MOL:
    """The model of a run, with weights drawn from the ambient random state.

    Raises:
        UserError: an option of the model is not possible.
    """
    try:
        model = MOL(config=settings.model_config(len(protocol.classes)))
    except ValueError as error:
        raise UserError(f"{error}.") from error
    return model


def score(model: MOL, clips: ClipDataset, fabric: Fabric, batch_size: int) -> FoldResults:
    """Predictions of all clips, and as samples the first window of some videos: the worst, and others."""
    pictures: dict[str, dict[str, Any]] = {}

    def keep(batch: Batch, output: MOLOutput) -> None:
        for row, (index, window) in enumerate(zip(batch["video"].tolist(), batch["window"].tolist(), strict=True)):
            if window == 0:
                video = clips.videos[index]
                pictures[f"{video.subject}/{video.name}"] = _picture(batch, output, row)

    evaluation = evaluate(model, clips, fabric, batch_size, keep)
    return FoldResults(evaluation, _choose(evaluation, pictures))


def summary(scores: Scores) -> dict[str, float]:
    """The main scores by name: ratios from 0 to 1, end-point errors in pixels, landmark error in %.

    Names with "zero_flow" are the errors of predicting no motion. Scores of flow or landmarks are left out where these
    were not predicted, those of moving pixels where nothing moves.
    """
    values = {
        "accuracy": scores.recognition.accuracy,
        "uf1": scores.recognition.uf1,
        "uar": scores.recognition.uar,
        "wf1": scores.recognition.wf1,
    }
    if scores.flow is not None:
        values["end_point_error"] = scores.flow.error
        values["end_point_error_zero_flow"] = scores.flow.zero_error
        if scores.flow.moving_error is not None and scores.flow.moving_zero_error is not None:
            values["end_point_error_moving"] = scores.flow.moving_error
            values["end_point_error_moving_zero_flow"] = scores.flow.moving_zero_error
            values["end_point_error_moving_share"] = scores.flow.moving_error / scores.flow.moving_zero_error
    if scores.landmarks is not None:
        values["landmark_error"] = scores.landmarks.error
        values["landmark_failure_rate"] = scores.landmarks.failure_rate
    return values


def _warn_of_missing(fold: Fold, counts: Sequence[int], classes: Sequence[str]) -> None:
    missing = missing_classes(counts, classes)
    if missing:
        text = (
            f"without the held-out subjects of fold {fold.name} there is no clip of {', '.join(missing)} to learn from"
        )
        print(f"warning: {text}; it is trained all the same", file=sys.stderr, flush=True)


def _fit(
    model: MOL,
    clips: ClipDataset,
    settings: TrainSettings,
    fabric: Fabric,
    folder: Path,
    info: dict[str, Any],
    labels: str,
    on_step: Callable[[StepRecord], None],
    scored: Sequence[int],
    on_scored: Callable[[int], None],
) -> None:
    precision = fabric_precision(fabric)
    identity = json.dumps([settings.identity(), precision, info["classes"], info["test_subjects"], labels])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    checkpoints = Checkpoints(folder / "checkpoints", settings.checkpoint_every, digest, fabric)
    log: StepLog | None = None

    def record(step: StepRecord) -> None:
        nonlocal log
        if not fabric.is_global_zero:
            return
        log = log or StepLog(folder, step.step - 1)
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
        raise Stopped(checkpoints.signal, f"Stopped by {signal.Signals(checkpoints.signal).name} at the end")


def _picture(batch: Batch, output: MOLOutput, row: int) -> dict[str, Any]:
    """The pair of frames of clip `row` that moves most."""
    pair = int(batch["flow"][row].abs().mean(dim=(0, 2, 3)).argmax())
    return {
        "first_frame": batch["frames"][row, 0, 0].numpy(),
        "frame": batch["frames"][row, 0, pair + 1].numpy(),
        "landmarks_true": batch["landmarks"][row, pair + 1].numpy(),
        "landmarks_predicted": None if output.landmarks is None else output.landmarks[row, pair].numpy(),
        "flow_true": batch["flow"][row, :, pair].numpy(),
        "flow_predicted": None if output.flow is None else output.flow[row, :, pair].numpy(),
        "note": f"frames {pair + 1} and {pair + 2} of 8, the pair that moves most",
    }


def _choose(evaluation: Evaluation, pictures: dict[str, dict[str, Any]]) -> tuple[Sample, ...]:
    """Half of the samples those whose true class has the least probability, the other half spread over the rest."""
    videos = sorted(evaluation.videos(), key=lambda video: video.probabilities[video.label])
    worst, rest = videos[: SAMPLES // 2], videos[SAMPLES // 2 :]
    count = min(len(rest), SAMPLES - len(worst))
    spread = [rest[round(place * (len(rest) - 1) / max(1, count - 1))] for place in range(count)]
    classes = evaluation.classes
    return tuple(
        Sample(
            subject=str(video.video).rpartition("/")[0],
            video=str(video.video).rpartition("/")[2],
            label=classes[video.label],
            predicted=classes[video.predicted],
            probabilities=dict(zip(classes, video.probabilities, strict=True)),
            **pictures[str(video.video)],
        )
        for video in (*worst, *spread)
    )
