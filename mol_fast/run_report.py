"""Scores of the held-out subjects: computed, printed, and written as tables and as report.html."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric

from mol_fast.data import ClipDataset
from mol_fast.metrics import Evaluation, Scores
from mol_fast.model import MOL, MOLOutput
from mol_fast.report import Sample, write_report
from mol_fast.training import Batch, evaluate

if TYPE_CHECKING:
    from mol_fast.run_folder import RunFolder

SAMPLES = 6


class RunReport:
    """Scores of a model on clips, and the pictures that go with them.

    Args:
        date: of the run, as it is printed.
        about: settings, model and subjects of the run.
        environment: versions and device.
        synthetic: the clips are of the embedded set, which the report then says.
    """

    def __init__(self, date: str, about: Mapping[str, Any], environment: Mapping[str, Any], synthetic: bool) -> None:
        self.date, self.about, self.environment, self.synthetic = date, about, environment, synthetic
        self.samples: list[dict[str, Any]] = []

    def score(self, model: MOL, clips: ClipDataset, fabric: Fabric, batch_size: int) -> None:
        """Score `clips`, and keep the first window of some of their videos to show."""
        shown = _spread([index for index, (_, window, _) in enumerate(clips.windows) if window == 0], SAMPLES)
        videos = {clips.windows[index][0] for index in shown}

        def keep(batch: Batch, output: MOLOutput) -> None:
            for row, (video, window) in enumerate(zip(batch["video"].tolist(), batch["window"].tolist(), strict=True)):
                if window == 0 and video in videos:
                    self.samples.append(_sample(batch, output, row))

        self.evaluation = evaluate(model, clips, fabric, batch_size, keep)
        self.videos = clips.videos
        self.scores = self.evaluation.compute()

    def write(self, folder: "RunFolder") -> None:
        """Write scores.json, predictions.csv and report.html, and the scores for TensorBoard."""
        folder.write_json("scores.json", self.scores.to_dict())
        folder.write_table("predictions.csv", _predictions(self.evaluation))
        folder.write_scalars(summary(self.scores), int(self.about["settings"]["steps"]))
        held_out = ", ".join(self.about["test_subjects"])
        write_report(
            folder.path / "report.html",
            name=folder.path.name,
            date=self.date,
            summary=f"{self.about['settings']['steps']} steps, scored on held-out subjects {held_out}",
            synthetic=self.synthetic,
            scores=self.scores,
            losses=folder.rows,
            samples=self._shown(),
            config={key: self.about[key] for key in ("settings", "model")},
            environment=self.environment,
        )

    def print(self) -> None:
        """Print the scores as a table."""
        from rich.console import Console
        from rich.table import Table

        flow, landmarks, recognition = self.scores.flow, self.scores.landmarks, self.scores.recognition
        title = "held-out subjects" + (", synthetic data: not micro-expression accuracy" if self.synthetic else "")
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_row("videos", str(sum(map(sum, recognition.confusion))))
        table.add_row("accuracy", f"{recognition.accuracy:.3f}")
        table.add_row("UF1", f"{recognition.uf1:.3f}")
        table.add_row("UAR", f"{recognition.uar:.3f}")
        table.add_row("end-point error, all pixels", f"{flow.error:.3f} px, zero flow {flow.zero_error:.3f} px")
        if flow.moving_error is not None and flow.moving_zero_error is not None:
            share = 100 * flow.moving_error / flow.moving_zero_error
            error = f"{flow.moving_error:.3f} px, zero flow {flow.moving_zero_error:.3f} px ({share:.0f} %)"
            table.add_row("end-point error, moving pixels", error)
        table.add_row("landmark error", f"{landmarks.error:.2f} % of inter-ocular distance")
        Console(width=100).print(table)

    def _shown(self) -> list[Sample]:
        predictions = {prediction.video: prediction for prediction in self.evaluation.videos()}
        classes = self.evaluation.classes
        shown = []
        for sample in self.samples:
            video = self.videos[sample.pop("index")]
            prediction = predictions[f"{video.subject}/{video.name}"]
            shown.append(
                Sample(
                    subject=video.subject,
                    video=video.name,
                    label=classes[prediction.label],
                    predicted=classes[prediction.predicted],
                    probabilities=dict(zip(classes, prediction.probabilities, strict=True)),
                    **sample,
                )
            )
        return shown


def summary(scores: Scores) -> dict[str, float]:
    """The main scores by name."""
    values = {
        "accuracy": scores.recognition.accuracy,
        "uf1": scores.recognition.uf1,
        "uar": scores.recognition.uar,
        "end_point_error": scores.flow.error,
        "landmark_error_percent": scores.landmarks.error,
    }
    if scores.flow.moving_error is not None:
        values["end_point_error_moving"] = scores.flow.moving_error
    return values


def _spread(items: list[int], count: int) -> list[int]:
    """At most `count` of `items`, evenly from first to last."""
    if len(items) <= count:
        return items
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


def _sample(batch: Batch, output: MOLOutput, row: int) -> dict[str, Any]:
    """The pair of frames of clip `row` that moves most."""
    pair = int(batch["flow"][row].abs().mean(dim=(0, 2, 3)).argmax())
    return {
        "index": int(batch["video"][row]),
        "first_frame": batch["frames"][row, 0, 0].numpy(),
        "frame": batch["frames"][row, 0, pair + 1].numpy(),
        "landmarks_true": batch["landmarks"][row, pair + 1].numpy(),
        "landmarks_predicted": output.landmarks[row, pair].numpy(),
        "flow_true": batch["flow"][row, :, pair].numpy(),
        "flow_predicted": output.flow[row, :, pair].numpy(),
        "note": f"frames {pair + 1} and {pair + 2} of 8, the pair that moves most",
    }


def _predictions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row per video."""
    classes = evaluation.classes
    return [
        {
            "video": prediction.video,
            "label": classes[prediction.label],
            "predicted": classes[prediction.predicted],
            "windows": prediction.windows,
            **dict(zip(classes, prediction.probabilities, strict=True)),
        }
        for prediction in evaluation.videos()
    ]
