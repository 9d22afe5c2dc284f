"""The formats that are fuzzed: how a valid scene of each is made, changed at random, and read."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.fuzzing import (
    DEEP,
    NASTY,
    Format,
    Random,
    change_bytes,
    change_cells,
    change_json,
    change_sealed,
    flip,
    json_text,
)
from openpyxl import Workbook, load_workbook

from mol_fast import MOL, PRESETS
from mol_fast.data import PreparedSet, VideoData, write_index, write_video
from mol_fast.data.loading import check_videos, open_data
from mol_fast.metrics import Evaluation, FlowSums, LabelledWindow, LandmarkSums
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.prediction.sources import open_source
from mol_fast.preparation.folders import list_table
from mol_fast.preparation.sheets import read_sheet
from mol_fast.report.run import write_run_report
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.sample import Sample
from mol_fast.runs.stored import StoredRun, read_run
from mol_fast.training.checkpoints import Checkpoints, Resumed
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import Subject, VideoId
from mol_fast.utils.sealed import sealed_json
from mol_fast.vision.video import read_image
from mol_fast.vision.write_video import VideoWriter

SHEET = ("Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame", "Estimated Emotion")
SUFFIXES = (".bmp", ".jpg", ".png", ".ppm", ".tif", ".webp")
CLASSES = ("negative", "positive", "surprise")


def make_video(path: Path, subject: str = "s1", name: str = "a", label: str = "fear") -> Any:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8, generator=generator)
    flow = torch.randn(7, 2, 144, 144, generator=generator).half()
    data = VideoData(frames, torch.arange(136.0).reshape(68, 2).repeat(8, 1, 1), flow)
    return write_video(path, *data, subject=subject, video=name, label=label, source="set")


def make_set(folder: Path) -> None:
    rows = [("s1", "a", "fear"), ("s1", "b", "joy"), ("s2", "a", "joy")]
    videos = [make_video(folder / f"videos/{row[0]}/{row[1]}.safetensors", *row) for row in rows]
    write_index(folder, videos, {"name": "set", "source": "set"})


def change_set(rng: Random, folder: Path) -> bool:
    path = folder / "set.json"
    if rng.random() < 0.5:
        path.write_text(json_text(change_json(rng, json.loads(path.read_text()))))
        return False
    if rng.random() < 0.3:
        path.write_bytes(change_bytes(rng, path.read_bytes()))
        return False
    return change_sealed(rng, rng.choice(sorted(folder.rglob("*.safetensors"))))


def change_index(rng: Random, folder: Path) -> bool:
    path = folder / "index.csv"
    path.write_bytes(change_cells(rng, path.read_text()))
    return False


def read_set(folder: Path) -> None:
    PreparedSet.open(folder)
    videos, _ = open_data([folder])
    check_videos(videos)


def make_weights(folder: Path) -> None:
    torch.manual_seed(0)
    info = {
        "classes": list(CLASSES),
        "preset": "small",
        "steps": 1,
        "train_subjects": [["set", "s1"]],
        "sources": ["set"],
    }
    save_weights(folder / "weights.safetensors", MOL(config=PRESETS["small"]), info)


def make_run(folder: Path) -> None:
    folds = {}
    for subject in ("s1", "s2"):
        evaluation = Evaluation(CLASSES)
        chances = ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.2, 0.5, 0.3))
        videos = [VideoId("set", subject, f"v{number}") for number in range(3)]
        evaluation.add_windows([LabelledWindow(*row) for row in zip(videos, range(3), chances, strict=True)])
        evaluation.flow = FlowSums(10.0, 60.0, 6.0, 30.0, 100, 20)
        evaluation.landmarks = LandmarkSums(40.0, 1, 8)
        fold = Fold.of([Subject("set", subject)], 0)
        folds[fold] = FoldResults(evaluation, (sample(subject),))
        path = folder / "folds" / fold.name
        path.mkdir(parents=True)
        folds[fold].write(path)
        (path / "metrics.csv").write_text(
            "step,total,expression,flow,landmarks\n1,3.0,1.0,1.0,1.0\n2,2.5,1.0,1.0,0.5\n"
        )
    stored = [
        {"name": fold.name, "seed": fold.seed, "subjects": [list(item) for item in fold.subjects]} for fold in folds
    ]
    about = {"settings": {"steps": 2}, "model": {}, "sources": ["set"], "folds": stored, "environment": {"torch": "2"}}
    (folder / "config.json").write_bytes(sealed_json(about | {"identity": {}}))


def sample(subject: str) -> Sample:
    points, flow = [np.arange(136.0).reshape(68, 2) for _ in range(2)], [np.ones((2, 144, 144)) for _ in range(2)]
    chances = dict(zip(CLASSES, (0.8, 0.1, 0.1), strict=True))
    return Sample("set", subject, "v0", *CLASSES[:1] * 2, chances, np.eye(144), np.eye(144), *points, *flow)


def change_run(rng: Random, folder: Path) -> bool:
    path = rng.choice(sorted(file for file in folder.rglob("*") if file.is_file()))
    data = path.read_bytes()
    sealed = path.name in ("config.json", "scores.json", "windows.csv")
    if sealed and rng.random() < 0.4:
        path.write_bytes(flip(rng, data, 0))
        return True
    if path.suffix == ".json" and rng.random() < 0.8:
        values = change_json(rng, json.loads(data))
        text = json_text(values).encode()
        path.write_bytes(text)
        if path.name in ("config.json", "scores.json") and isinstance(values, dict) and DEEP.encode() not in text:
            values.pop("digest", None)
            path.write_bytes(sealed_json(values))
        return False
    if path.suffix == ".csv" and rng.random() < 0.8:
        path.write_bytes(change_cells(rng, data.decode()))
        return False
    if path.suffix == ".safetensors":
        return change_sealed(rng, path)
    path.write_bytes(change_bytes(rng, data))
    return False


def checkpoints(folder: Path) -> tuple[Checkpoints, torch.nn.Module, torch.optim.Optimizer]:
    """A small training at its first step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    return Checkpoints(folder, 1, "mine", {"torch": "2"}), model, torch.optim.AdamW(model.parameters(), fused=True)


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


def make_checkpoint(folder: Path) -> None:
    training, *state = checkpoints(folder)
    take_step(*state)
    training.lines.append("step,total\n1,2.0\n")
    training.resumed.append(Resumed(1, {"torch": ("1", "2")}))
    training.save(2, *state)


def change_checkpoint(rng: Random, folder: Path) -> bool:
    return change_sealed(rng, next(folder.iterdir()))


def resume(folder: Path) -> None:
    """Go on with the training; a checkpoint that is ignored counts as refused."""
    training, *state = checkpoints(folder)
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        step = training.load(*state)
    if len(told.getvalue().splitlines()) > 1:
        raise AssertionError(f"not one line: {told.getvalue()!r}")
    if not step:
        raise UserError("ignored")
    take_step(*state)
    write_atomic(folder / "metrics.csv", "".join(training.lines))
    training.save(step + 1, *state)


def score_run(folder: Path) -> tuple[StoredRun, PooledResults]:
    stored = read_run(folder)
    pooled = PooledResults(stored.folds)
    pooled.write(folder, stored.unfinished)
    return stored, pooled


def report_run(folder: Path) -> None:
    stored, pooled = score_run(folder)
    write_run_report(folder, pooled, stored.about, "2030-01-02", warnings=stored.warnings)


def make_sheet(folder: Path) -> None:
    book = Workbook()
    for row in (("title",), SHEET, (1, "EP01", 46, 59, 86, "happiness"), (2, "EP02", 1, "/", 9, "others")):
        book.active.append(row)
    book.save(folder / "sheet.xlsx")


def change_sheet(rng: Random, folder: Path) -> bool:
    path = folder / "sheet.xlsx"
    kind = rng.randrange(4)
    if kind == 0:
        path.write_bytes(change_bytes(rng, path.read_bytes()))
    elif kind == 1:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(parts))
        bomb = b" " * rng.choice([2**10, 2**20, 2**26])
        parts[name] = rng.choice([change_bytes(rng, parts[name]), parts[name][:50] + bomb + parts[name][50:]])
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, data in parts.items():
                archive.writestr(part, data)
    else:
        book = load_workbook(path)
        cell = rng.choice(["A2", "B3", "C3", "F4", "XFD20000", "A1048576", "XFD1048576"])
        value = rng.choice(NASTY)
        fits = isinstance(value, int | float) and abs(value) < 1e300
        book.active[cell] = float(value) if fits else "".join(filter(str.isprintable, str(value)))
        book.save(path)
    return False


def make_table(folder: Path) -> None:
    for name in "ab":
        (folder / name).mkdir()
        for number in range(9):
            (folder / name / f"{number}.jpg").touch()
    (folder / "set.csv").write_text("path,subject,label,video\na,1,joy,x\nb,2,fear,y\na,3,joy,\n")
    (folder / "own.csv").write_text(",".join(SHEET) + "\n1,a,1,3,9,fear\n2,b,1,3,9,joy\n")


def change_table(rng: Random, folder: Path) -> bool:
    for name in ("set.csv", "own.csv"):
        (folder / name).write_bytes(change_cells(rng, (folder / name).read_text()))
    return False


def read_tables(folder: Path) -> None:
    try:
        list_table(folder / "set.csv", "set")
    except UserError:
        read_sheet(folder / "own.csv")
        raise
    read_sheet(folder / "own.csv")


def make_image(folder: Path) -> None:
    import cv2

    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    for suffix in SUFFIXES:
        cv2.imwrite(str(folder / f"a{suffix}"), picture)


def change_image(rng: Random, folder: Path) -> bool:
    keep = rng.choice(SUFFIXES)
    for suffix in SUFFIXES:
        if suffix != keep:
            (folder / f"a{suffix}").unlink()
    path = folder / f"a{keep}"
    data = path.read_bytes()
    if keep == ".png" and rng.random() < 0.5:
        sides = (rng.choice([0, 1, 40_000, 100_000, 2**31 - 1]), rng.choice([1, 9_000, 30_000, 2**31 - 1]))
        head = b"IHDR" + struct.pack(">II", *sides) + data[24:29]
        path.write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    else:
        path.write_bytes(change_bytes(rng, data))
    return False


def read_images(folder: Path) -> None:
    for path in folder.iterdir():
        read_image(path)


def make_films(folder: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    with VideoWriter(folder / "a.mp4", (64, 48)) as writer:
        for frame in frames:
            writer.write(frame)


def change_bytes_of(name: str) -> Callable[[Random, Path], bool]:
    def change(rng: Random, folder: Path) -> bool:
        path = folder / name
        data = path.read_bytes()
        for _ in range(rng.randint(1, 4)):
            data = change_bytes(rng, data)
        path.write_bytes(data)
        return False

    return change


def read_film(folder: Path) -> None:
    for _ in open_source(folder / "a.mp4"):
        pass


def read_video(folder: Path) -> None:
    for _ in open_source(folder / "a.safetensors"):
        pass


FORMATS = {
    "prepared set": Format(make_set, change_set, read_set),
    "index": Format(make_set, change_index, read_set),
    "prepared video": Format(
        lambda folder: make_video(folder / "a.safetensors"),
        lambda rng, folder: change_sealed(rng, folder / "a.safetensors"),
        read_video,
    ),
    "weights": Format(
        make_weights,
        lambda rng, folder: change_sealed(rng, folder / "weights.safetensors"),
        lambda folder: load_weights(folder),
    ),
    "checkpoint": Format(make_checkpoint, change_checkpoint, resume),
    "run": Format(make_run, change_run, score_run),
    "report of a run": Format(make_run, change_run, report_run),
    "sheet": Format(make_sheet, change_sheet, lambda folder: read_sheet(folder / "sheet.xlsx")),
    "table": Format(make_table, change_table, read_tables),
    "image": Format(make_image, change_image, read_images),
    "video": Format(make_films, change_bytes_of("a.mp4"), read_film),
}

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
