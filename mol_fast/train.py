"""Train on the embedded set or on a prepared one, and score held-out subjects: `python -m mol_fast.train`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import torch

from mol_fast.cli import run_program
from mol_fast.data import ClipDataset, PreparedSet, Protocol, Video, embedded_set, get_protocol
from mol_fast.errors import UserError
from mol_fast.model import MOL
from mol_fast.settings import TrainSettings
from mol_fast.weights import FILE_NAME, save_weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from mol_fast.run_folder import RunFolder
    from mol_fast.training import StepRecord


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(run, argv, "train", "train")


@dataclass(frozen=True)
class Split:
    """Clips to train on and clips of the subjects held out."""

    train: ClipDataset
    test: ClipDataset

    def subjects(self) -> dict[str, list[str]]:
        """Names of the subjects of both parts."""
        return {
            "train_subjects": sorted({video.subject for video in self.train.videos}),
            "test_subjects": sorted({video.subject for video in self.test.videos}),
        }


def run(settings: TrainSettings) -> None:
    """Train micro-expression, optical flow and landmarks jointly, then score the subjects held out.

    Without options the embedded synthetic set is generated and used. Held-out subjects serve the final scores only.
    OUT/NAME receives config.json, environment.json, metrics.csv, TensorBoard events, weights.safetensors,
    scores.json, predictions.csv and report.html.

    Raises:
        UserError: an option cannot be used, or the loss is not finite.
    """
    from mol_fast.run_folder import RunFolder, environment
    from mol_fast.run_report import RunReport

    settings.check()
    protocol = get_protocol(settings.protocol)
    fabric = make_fabric(settings)
    torch.manual_seed(settings.seed)
    model = make_model(settings, protocol)
    prepared = PreparedSet.open(settings.data) if settings.data else _embedded(settings)
    split = split_subjects(prepared, protocol, settings)
    model.landmark_head.start_at(split.train.mean_landmarks())
    started = datetime.now().astimezone()
    with RunFolder(settings.out / (settings.name or f"{prepared.name}-{started:%Y%m%d-%H%M%S}")) as folder:
        about = {
            "settings": asdict(settings),
            "model": model.config.to_dict(),
            "set": prepared.info,
            **split.subjects(),
        }
        folder.write_json("config.json", about)
        folder.write_json("environment.json", environment(fabric.device))
        for part, clips in ("train on", split.train), ("hold out", split.test):
            subjects = sorted({video.subject for video in clips.videos})
            print(f"{part} {len(clips)} clips of {len(subjects)} subjects: {', '.join(subjects)}", flush=True)
        info = {"classes": list(protocol.classes), "preset": settings.preset, "set": prepared.name}
        _train(model, split.train, settings, fabric, folder, info)
        report = RunReport(f"{started:%Y-%m-%d %H:%M}", about, environment(fabric.device), prepared.name == "embedded")
        report.score(model, split.test, fabric, settings.batch_size)
        report.write(folder)
        report.print()
    print(f"written to {folder.path}: open {folder.path / 'report.html'}")


def make_fabric(settings: TrainSettings) -> "Fabric":
    """Device and precision of a run.

    Raises:
        UserError: the device is not there.
    """
    from lightning_fabric import Fabric

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"The device {settings.device!r} is not available: use --device cpu.")
    precision = settings.precision
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if kind == "cuda" else torch.cpu._is_avx512_bf16_supported()
        precision = "bfloat16" if fast else "float32"
    index = device.partition(":")[2]
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index else 1,
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
    )
    fabric.launch()
    return fabric


def make_model(settings: TrainSettings, protocol: Protocol) -> MOL:
    """The model of a run, with weights drawn from the ambient random state.

    Raises:
        UserError: an option of the model is not possible.
    """
    try:
        model = MOL(config=settings.model_config(len(protocol.classes)))
    except ValueError as error:
        raise UserError(f"{error}.") from error
    model.flow_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def split_subjects(prepared: PreparedSet, protocol: Protocol, settings: TrainSettings) -> Split:
    """Clips of a set by subject: those held out, and the rest for training.

    Raises:
        UserError: a subject is not in the set, or one part would be empty.
    """
    videos = protocol.select(prepared.videos)
    subjects = sorted({video.subject for video in videos})
    held_out = settings.test_subjects or tuple(subjects[-2:])
    unknown = sorted(set(held_out) - set(subjects))
    if unknown:
        raise UserError(f"There is no subject {', '.join(unknown)} in {prepared.path}: it has {', '.join(subjects)}.")

    def clips(part: list[Video], crop: Any, flip: bool) -> ClipDataset:
        return ClipDataset(part, protocol, crop, flip, settings.seed)

    split = Split(
        clips([video for video in videos if video.subject not in held_out], "random", True),
        clips([video for video in videos if video.subject in held_out], "center", False),
    )
    if not len(split.train) or not len(split.test):
        raise UserError(
            f"{prepared.path} has {len(subjects)} subjects with clips of {protocol.name}, "
            f"{len(held_out)} of them held out: none is left to train or to test on."
        )
    return split


def _embedded(settings: TrainSettings) -> PreparedSet:
    print("opening the embedded set, generated on first use", flush=True)
    return embedded_set(settings.data_dir)


def _train(
    model: MOL, clips: ClipDataset, settings: TrainSettings, fabric: "Fabric", folder: "RunFolder", info: dict[str, Any]
) -> None:
    from mol_fast.training import LossNotFinite, train

    done = 0

    def record(step: "StepRecord") -> None:
        nonlocal done
        done = step.step
        folder.log(step.row())
        advance(step)

    try:
        with _progress(settings.steps) as advance:
            train(model, clips, settings, fabric, record)
    except (LossNotFinite, KeyboardInterrupt) as error:
        save_weights(folder.path / FILE_NAME, model, info | {"steps": done})
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UserError(
            f"The loss at step {done + 1} is not finite; the weights before it are in {folder.path}: "
            "look for broken values in the data, or lower --lr."
        ) from error
    save_weights(folder.path / FILE_NAME, model, info | {"steps": done})


@contextmanager
def _progress(steps: int) -> Iterator[Callable[["StepRecord"], None]]:
    """A progress bar with the loss terms, the rate and the time left; gives the function to call after each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.2f} steps/s")

    console = Console(stderr=True)
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[terms]}"), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=60) as progress:
        task = progress.add_task("train", total=steps, terms="")

        def advance(step: "StepRecord") -> None:
            row = step.row()
            text = " ".join(f"{name} {row[name]:.4f}" for name in ("expression", "flow", "landmarks"))
            progress.update(task, advance=1, terms=text)
            if not console.is_terminal and (step.step % 50 == 0 or step.step == steps):
                print(f"step {step.step}/{steps}: {text}", file=sys.stderr, flush=True)

        yield advance


if __name__ == "__main__":
    sys.exit(main())
