"""Score a model on held-out clips, and keep some clips as pictures."""

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from mol_fast.data import ClipDataset
from mol_fast.metrics import Evaluation
from mol_fast.nn.model import Estimator, MOLOutput, MOLUnitsOutput
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.sample import SHOWN, Sample
from mol_fast.utils.names import VideoId

Batch = dict[str, Tensor]


def score(model: Estimator, clips: ClipDataset, fabric: Fabric, batch_size: int) -> FoldResults:
    """Predict all clips, and keep the first window of some videos as samples: the worst, and others."""
    pictures: dict[VideoId, dict[str, Any]] = {}

    def keep(batch: Batch, output: MOLOutput) -> None:
        for row, (index, window) in enumerate(zip(batch["video"].tolist(), batch["window"].tolist(), strict=True)):
            if window == 0:
                pictures[clips.videos[index].id] = _picture(batch, output, row)

    evaluation = evaluate(model, clips, fabric, batch_size, keep)
    return FoldResults(evaluation, _choose(evaluation, pictures))


@torch.inference_mode()
def evaluate(
    model: Estimator,
    clips: ClipDataset,
    fabric: Fabric,
    batch_size: int,
    on_batch: Callable[[Batch, MOLOutput], None] = lambda batch, output: None,
) -> Evaluation:
    """Score all clips, in evaluation mode and in the precision of `fabric`."""
    model.eval()
    evaluation = Evaluation(clips.protocol.classes)
    for batch in DataLoader(clips, batch_size):
        with fabric.autocast():
            output = model(*(batch[name].to(fabric.device) for name in model.reads))
        units = output.units.float().cpu() if isinstance(output, MOLUnitsOutput) else None
        flow, landmarks = (None if value is None else value.float().cpu() for value in (output.flow, output.landmarks))
        output = MOLOutput(output.logits.float().cpu(), flow, landmarks)
        videos = [clips.videos[index].id for index in batch["video"].tolist()]
        of_flow, of_landmarks = (flow, batch["flow"]), (landmarks, batch["landmarks"][:, 1:])
        evaluation.update(
            output.logits, batch["label"], videos, *of_flow, *of_landmarks, units=units, units_true=batch["units"]
        )
        on_batch(batch, output)
    return evaluation


def _picture(batch: Batch, output: MOLOutput, row: int) -> dict[str, Any]:
    """Return the pair of frames of clip `row` with the most motion."""
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


def _choose(evaluation: Evaluation, pictures: dict[VideoId, dict[str, Any]]) -> tuple[Sample, ...]:
    """Pick the videos with the lowest probability of the true class, then others spread evenly."""
    videos = sorted(evaluation.videos(), key=lambda video: video.probabilities[video.label])
    worst, rest = videos[: SHOWN // 2], videos[SHOWN // 2 :]
    count = min(len(rest), SHOWN - len(worst))
    spread = [rest[round(place * (len(rest) - 1) / max(1, count - 1))] for place in range(count)]
    classes = evaluation.classes
    return tuple(
        Sample(
            source=video.video.source,
            subject=video.video.subject,
            video=video.video.name,
            label=classes[video.label],
            predicted=classes[video.predicted],
            probabilities=dict(zip(classes, video.probabilities, strict=True)),
            **pictures[video.video],
        )
        for video in (*worst, *spread)
    )
