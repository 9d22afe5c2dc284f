"""Ask models where they look, and compare with where faces truly moved: python benchmarks/attribution.py

    python benchmarks/attribution.py --out runs/attribution                  trains, scores, prints the table
    python benchmarks/attribution.py --out runs/attribution --seeds 0 1 2    the same with three seeds

Makes an embedded set of 20 subjects, trains the whole model and its ablations on the first ten, and asks all of them
about one video of each emotion of the other ten, and about videos of ten rendered heads. The weights that come with
mol-fast are asked, too; they know other heads, and none of these subjects. What OUT has already is not made again, so
an interrupted run goes on. One seed takes about 20 minutes of one core.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast import tvl1
from mol_fast.data import ClipDataset, Protocol, Video, generate_embedded
from mol_fast.data.clips import crop_clip, cut_window
from mol_fast.data.embedded.action_units import EMOTIONS
from mol_fast.data.heads.generate import generate_heads
from mol_fast.data.loading import open_data
from mol_fast.explain.attribution import attribute, expression_model
from mol_fast.metrics import moving_region, score_places
from mol_fast.metrics.jackknife import Scale, interval, leave_one_out
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import GENERAL, save_weights
from mol_fast.report.figures import lay_places, pixels_png
from mol_fast.training.fabric import make_fabric
from mol_fast.training.loop import train
from mol_fast.training.settings import TrainSettings
from mol_fast.training.step import StepRecord
from mol_fast.utils.files import write_atomic
from mol_fast.vision.sizes import CROP, MARGIN

SUBJECTS, TRAINED = 20, 10
FLOW_WIDTH = 0.125  # half of the preset small: flow takes most of the time
CELL = 8  # pixels; maps are compared at the resolution of the blocks
WHOLE = "whole"
ABLATIONS: dict[str, dict[str, Any]] = {
    "without FCC": {"parts": ("ccc",)},
    "without CCC": {"parts": ("fcc",)},
    "expression alone": {"tasks": ("mer",)},
}
MODELS: dict[str, dict[str, Any]] = {WHOLE: {}, **ABLATIONS, "random weights": {}}
NO_MODEL = "no model"
HEADS_SEED = 1  # the weights that come with mol-fast know the heads of seed 0
SCORES: dict[str, Scale] = {"pointing": "ratio", "energy": "ratio", "rank": "difference"}


def build(name: str, settings: TrainSettings, protocol: Protocol, landmarks: Tensor) -> MOL:
    """Return a model of `MODELS` with the weights that training starts from."""
    torch.manual_seed(settings.seed)
    config = replace(settings.model_config(len(protocol.classes)), flow_width=FLOW_WIDTH, **MODELS[name])
    model = MOL(config=config)
    if model.landmark_head is not None:
        model.landmark_head.start_at(landmarks)
    return model


def trained(name: str, settings: TrainSettings, videos: list[Video], protocol: Protocol, out: Path) -> MOL:
    """Return a model of `MODELS`; train it, and keep its weights in `out`, if they are not there."""
    file = out / f"{_stem(name, settings)}.safetensors"
    if file.exists():
        return MOL.from_pretrained(file)
    clips = ClipDataset(videos, protocol, "random", settings.flip, settings.seed)
    model = build(name, settings, protocol, clips.mean_landmarks())
    if name != "random weights":

        def tell(step: StepRecord) -> None:
            if step.step % 25 == 0 or step.step == settings.steps:
                print(name, step.step, {term: round(value, 4) for term, value in step.terms.items()}, flush=True)

        train(model, clips, settings, make_fabric("cpu", settings.precision), tell)
        save_weights(file, model, {"classes": list(protocol.classes)})
    return model


def true_motion(flow: Tensor) -> np.ndarray[Any, Any]:
    """Return how far cells (16, 16) move in pixels, in the pair of a flow (2, 7, 128, 128) where they move most."""
    return F.avg_pool2d(flow.norm(dim=0).amax(0)[None], CELL)[0].numpy()


def ask(load: Callable[[], MOL], clips: ClipDataset) -> list[dict[str, Any]]:
    """Return a row for each clip: who it is, the predicted class, and scores of every map of the loaded model."""
    rows, model = [], load().eval()
    lean = expression_model(model)
    for item in clips:
        frames = item["frames"][None]
        with torch.inference_mode():
            output = model(frames)
        predicted = int(output.logits.argmax())
        places = {name: maps[0] for name, maps in attribute(lean, frames, torch.tensor([predicted])).places().items()}
        if output.flow is not None:
            places["predicted flow"] = torch.from_numpy(true_motion(output.flow[0]))
        rows.append(_row(clips, item, {name: maps.numpy() for name, maps in places.items()}, predicted))
    return rows


def draw(load: Callable[[], MOL], clips: ClipDataset, file: Path) -> None:
    """Write a picture of six clips: the three whose Grad-CAM has least of its energy where they move, and others.

    A row is a clip: its last frame, the true motion, and the maps in the order of `METHODS`, laid over the first frame.
    """
    rows, model = ask(load, clips), load().eval()
    order = sorted(range(len(rows)), key=lambda place: rows[place]["scores"]["first block"]["energy"])
    rest = order[3:]
    chosen = order[:3] + [rest[round(k * (len(rest) - 1) / 2)] for k in range(3) if rest]
    lean, lines = expression_model(model), []
    for place in chosen:
        item = clips[place]
        clip = item["frames"][None]
        with torch.inference_mode():
            label = model(clip).logits.argmax(1)
        maps = [places[0].numpy() for places in attribute(lean, clip, label).places().values()]
        first, last = (cut_window(clips.videos[int(item["video"])].read(), 0).frames[k] for k in (0, -1))
        first, last = (frame[MARGIN : MARGIN + CROP, MARGIN : MARGIN + CROP].numpy() for frame in (first, last))
        laid = [lay_places(first, cells) for cells in (true_motion(item["flow"]), *maps)]
        lines.append(np.concatenate([np.repeat(last[..., None], 3, 2), *laid], axis=1))
    write_atomic(file, pixels_png(np.concatenate(lines)))


def ask_no_model(clips: ClipDataset) -> list[dict[str, Any]]:
    """Return a row for each clip with what needs no model: chance, TV-L1 flow, and the difference of frames."""
    rows = []
    for item in clips:
        video = clips.videos[int(item["video"])].read()
        seen = crop_clip(cut_window(video, 0), MARGIN, MARGIN).frames.float()
        places = {
            "chance": np.ones((CROP // CELL, CROP // CELL)),
            "TV-L1 flow": true_motion(tvl1.flow(seen[:-1], seen[1:]).transpose(0, 1)),
            "frame difference": F.avg_pool2d((seen - seen[:1]).abs().sum(0)[None], CELL)[0].numpy(),
        }
        rows.append(_row(clips, item, places, None))
    return rows


def _row(clips: ClipDataset, item: dict[str, Tensor], places: dict[str, Any], predicted: int | None) -> dict[str, Any]:
    video, motion = clips.videos[int(item["video"])], true_motion(item["flow"])
    return {
        "subject": video.subject,
        "video": video.name,
        "right": None if predicted is None else predicted == int(item["label"]),
        "region": float(moving_region(motion).mean()),
        "scores": {name: score_places(maps, motion)._asdict() for name, maps in places.items()},
    }


def table(results: dict[str, list[list[dict[str, Any]]]]) -> Iterator[str]:
    """Return the lines of the table in Markdown, with 95 % intervals over subjects.

    Args:
        results: the rows of each seed, by model.
    """
    yield "| model | right | map | pointing game | energy inside | rank correlation |"
    yield "|---|---|---|---|---|---|"
    for model, seeds in results.items():
        rows = [row for seed in seeds for row in seed]
        right = "" if model == NO_MODEL else f"{np.mean([row['right'] for row in rows]):.2f}"
        for name in rows[0]["scores"]:
            cells = [
                _cell([(row["subject"], row["scores"][name][score]) for row in rows], scale)
                for score, scale in SCORES.items()
            ]
            yield f"| {model} | {right} | {name} | {' | '.join(cells)} |"


def differences(results: dict[str, list[list[dict[str, Any]]]]) -> Iterator[str]:
    """Return the lines of a table in Markdown: scores of the whole model less those of each ablation, clip by clip.

    Args:
        results: see `table`.
    """
    yield "| whole less | map | pointing game | energy inside | rank correlation |"
    yield "|---|---|---|---|---|"
    whole = [row for seed in results[WHOLE] for row in seed]
    for model in (model for model in ABLATIONS if model in results):
        pairs = list(zip(whole, (row for seed in results[model] for row in seed), strict=True))
        for name in (name for name in whole[0]["scores"] if name in pairs[0][1]["scores"]):
            cells = [
                _cell(
                    [(a["subject"], a["scores"][name][score] - b["scores"][name][score]) for a, b in pairs],
                    "difference",
                )
                for score in SCORES
            ]
            yield f"| {model} | {name} | {' | '.join(cells)} |"


def _cell(values: Sequence[tuple[str, float]], scale: Scale) -> str:
    subjects = sorted({subject for subject, _ in values})
    means = np.array([np.mean([value for who, value in values if who == subject]) for subject in subjects])
    weights = leave_one_out(len(subjects))
    ends = interval(weights @ means / weights.sum(1), [0] * len(subjects), scale)
    return f"{means.mean():z.2f}" + (f" ({ends[0]:z.2f} to {ends[1]:z.2f})" if ends else "")


def _stem(name: str, settings: TrainSettings) -> str:
    return f"{name.replace(' ', '-')}-seed{settings.seed}-{settings.steps}x{settings.batch_size}"


def _kept(file: Path, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows in a file; make and write them if it is not there."""
    if not file.exists():
        write_atomic(file, json.dumps(make(), indent=1))
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    return rows


def data(out: Path) -> tuple[list[Video], Protocol, dict[str, ClipDataset]]:
    """Return the videos to learn from, their protocol, and for each set the clips to ask about; make missing sets."""
    if not (out / "embedded").exists():
        generate_embedded(out / "embedded", SUBJECTS)
    if not (out / "heads").exists():
        generate_heads(out / "heads", SUBJECTS - TRAINED, len(EMOTIONS), HEADS_SEED)
    videos, protocol = open_data([out / "embedded"])
    first = {f"s{number:02d}" for number in range(1, TRAINED + 1)}
    asked = {
        "embedded": [video for video in videos if video.subject not in first and video.name.endswith("_1")],
        "heads": open_data([out / "heads"], protocol.name)[0],
    }
    sets = {name: ClipDataset(chosen, protocol) for name, chosen in asked.items()}
    for clips in sets.values():
        clips.windows = [row for row in clips.windows if row[1] == 0]
    return [video for video in videos if video.subject in first], protocol, sets


def main() -> None:
    """Train and score what is missing in the folder of results, then print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sets, the weights and the scores")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="seeds of weights and training")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS, help="models to train and score")
    parser.add_argument("--steps", type=int, default=300, help="steps of each training")
    parser.add_argument("--batch-size", type=int, default=4, help="clips of a step")
    parser.add_argument("--picture", type=Path, help="PNG to draw: what the whole model sees in six embedded clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    videos, protocol, sets = data(options.out)
    runs = [
        TrainSettings(steps=options.steps, batch_size=options.batch_size, seed=seed, precision="float32")
        for seed in options.seeds
    ]
    models = [
        (name, _stem(name, run), partial(trained, name, run, videos, protocol, options.out))
        for name in options.models
        for run in runs
    ]
    models.append((GENERAL, GENERAL, partial(MOL.from_pretrained, GENERAL)))
    for place, clips in sets.items():
        results = {NO_MODEL: [_kept(options.out / f"no-model-{place}.json", partial(ask_no_model, clips))]}
        for name, stem, load in models:
            results.setdefault(name, []).append(_kept(options.out / f"{stem}-{place}.json", partial(ask, load, clips)))
        print(f"## {place}\n", *table(results), "", sep="\n")
        if WHOLE in results:
            print(*differences(results), "", sep="\n")
    if options.picture:
        draw(partial(trained, WHOLE, runs[0], videos, protocol, options.out), sets["embedded"], options.picture)


if __name__ == "__main__":
    main()
