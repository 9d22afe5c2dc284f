"""The program that scores runs, weights or spotting, and compares or tabulates runs: `python -m mol_fast.evaluate`."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mol_fast.cli import progress, run_program
from mol_fast.training.models import MODELS
from mol_fast.training.settings import Precision
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256, write_atomic
from mol_fast.utils.limits import MOST_BATCH

if TYPE_CHECKING:
    from mol_fast.runs.stored import StoredRun

MODES = {
    "run": ("out", "partial"),
    "weights": ("out", "data", "data_dir", "protocol", "subjects", "device", "precision", "batch_size"),
    "compare": ("out", "partial"),
    "table": ("out", "partial"),
    "spotting": ("out", "weights", "device", "precision", "batch_size"),
}
"""The modes, and the options that apply to each."""


@dataclass(frozen=True)
class Options:
    """Options of the program. Give exactly one of run, weights, compare, table and spotting."""

    run: Path | None = None
    """Folder of a run to score again from its tables of windows. Needs no data and no model."""
    weights: Path | None = None
    """Folder of a fold, weights file, general (the weights that come with mol-fast), or owner/name of the hub, to score
    on prepared sets; of MOL or a baseline. With --spotting, of MOL alone, also the folder of a run, whose folds
    recognise what is spotted of the subjects that they hold out."""
    compare: tuple[Path, Path] | None = None
    """Folders of two runs, A and B, to compare over the subjects that both hold out. One may be a table (.csv) of
    another program's predictions, with the columns video and predicted."""
    table: tuple[Path, ...] = ()
    """Folders of runs of the same protocol, or of several models (train --model all), and tables of predictions (.csv),
    for a table in Markdown; with --out also in LaTeX."""
    spotting: Path | None = None
    """Folder of a prepared set of long videos, to score spotting; with --weights also recognition."""
    out: Path | None = None
    """New folder for scores, tables and report. Default: --run writes to the run itself, the other modes only print."""
    partial: bool = False
    """Accept runs with unfinished folds, and use the finished ones."""
    data: tuple[Path, ...] = ()
    """Folders of prepared sets, used as one set; embedded and heads are the generated sets, embedded-48 is the embedded
    set with 48 subjects. Default: the embedded set."""
    data_dir: Path | None = None
    """Folder of the embedded set that DATA names, which is generated on first use. Default: a folder in the user's
    cache."""
    protocol: str | None = None
    """Protocol that maps labels to classes, as in training. Default: the protocol that the sets were prepared for."""
    subjects: tuple[str, ...] = ()
    """Names of the subjects to score; SOURCE/SUBJECT where several sets have the same name. Default: all subjects that
    the weights were not trained on."""
    device: str = "auto"
    """Device to run on: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""
    precision: Precision = "auto"
    """bfloat16 (autocast), float32, or auto: bfloat16 if the device has instructions for it."""
    batch_size: int = 8
    """Number of clips in one batch."""

    def check(self) -> str:
        """Check the options, and return the mode, a key of `MODES`.

        Raises:
            UserError: not exactly one mode is given, an option does not apply to it, or a number is out of range.
        """
        modes = ["spotting"] if self.spotting else [name for name in MODES if getattr(self, name)]
        if len(modes) != 1:
            given = " and ".join(f"--{name}" for name in modes) or "none"
            raise UserError(f"give one of --run, --weights, --compare, --table and --spotting, got {given}")
        for field in fields(self):
            if field.name not in (*modes, *MODES[modes[0]]) and getattr(self, field.name) != field.default:
                raise UserError(f"--{field.name.replace('_', '-')} does not apply to --{modes[0]}: omit it")
        if not 1 <= self.batch_size <= MOST_BATCH:
            raise UserError(f"--batch-size must be from 1 to {MOST_BATCH}, got {self.batch_size}")
        return modes[0]


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    return run_program(run, argv, "evaluate", "train")


def run(settings: Options) -> None:
    """Score a run again, weights on prepared sets, or spotting; compare two runs, or make a table of runs.

    --run reads the tables of windows in the folder of a run, and writes scores, tables and report again.
    --weights scores a model, by default on the subjects that it was not trained on.
    --compare shows the differences of two runs, with 95 % intervals over subjects.
    --table shows the scores of several runs as a table for a paper.
    --spotting scores spotting in long videos beside a baseline, and with --weights what is spotted and recognised
    (STRS). It writes spotting.json and the log of the MEGC challenges.

    Raises:
        UserError: an option cannot be used.
    """
    modes = {"run": _score_run, "weights": _score_weights, "compare": _compare, "table": _table, "spotting": _spotting}
    modes[settings.check()](settings)


def _score_run(settings: Options) -> None:
    from mol_fast.report.run import write_run_report
    from mol_fast.report.terminal import print_scores
    from mol_fast.runs.pooled import PooledResults
    from mol_fast.runs.stored import read_run

    assert settings.run is not None
    stored = read_run(settings.run, settings.partial)
    subjects = str(stored.about.get("subjects", "held-out subjects"))
    out = settings.run
    if settings.out is not None and settings.out.resolve() != settings.run.resolve():
        out = settings.out
        _open_out(out, {**stored.about, "evaluated": str(settings.run)}, {"run": str(settings.run.resolve())})
    pooled = PooledResults(stored.folds)
    pooled.write(out, stored.unfinished)
    write_run_report(stored.path, pooled, stored.about, _now(), out=out, subjects=subjects, warnings=stored.warnings)
    print_scores(pooled, subjects)
    _conclude(stored.warnings, out / "report.html")


def _score_weights(settings: Options) -> None:
    from mol_fast.baselines import BASELINES
    from mol_fast.data.loading import check_flow, check_videos, data_folders, open_data, sources
    from mol_fast.evaluation.score_weights import Weights, choose_subjects, score_folds
    from mol_fast.report.run import write_run_report
    from mol_fast.report.terminal import print_scores
    from mol_fast.runs.folder import Fold, fold_folder
    from mol_fast.runs.pooled import PooledResults
    from mol_fast.training.fabric import make_fabric
    from mol_fast.utils.environment import environment

    assert settings.weights is not None
    fabric = make_fabric(settings.device, settings.precision)
    weights = Weights.load(settings.weights, BASELINES)
    with progress() as begin:
        made = begin("making the videos")
        folders = data_folders(settings.data, settings.data_dir, made)
        videos, protocol = open_data(folders, settings.protocol, settings.data_dir, made)
    weights.check_protocol(protocol)
    choice = choose_subjects(weights, videos, settings.subjects)
    with progress() as begin:
        scored = [video for video in videos if video.id.person in choice.subjects]
        check_videos(scored, begin("checking the videos"))
    if "flow" in weights.model.reads:
        check_flow(scored, f"the model of {settings.weights}")
    folds = [Fold.of((subject,), 0, len(sources(videos))) for subject in choice.subjects]
    title = "subjects" if choice.warnings else "held-out subjects"
    steps = "unknown" if weights.header.steps is None else weights.header.steps
    about = {
        "settings": {**asdict(settings), "protocol": protocol.name, "steps": steps},
        "model": weights.model.config.to_dict(),
        "sources": sources(videos),
        "folds": msgspec.to_builtins(folds),
        "subjects": title,
        "warnings": choice.warnings,
        "environment": environment(fabric.device),
    }
    if settings.out is not None:
        identity = {"weights": file_sha256(weights.file), "protocol": protocol.name, "precision": settings.precision}
        _open_out(settings.out, about, {**identity, "videos": len(videos), "folds": about["folds"]})
    with progress() as begin:
        advance = begin("scoring subjects", len(folds))
        results = score_folds(weights, videos, folds, protocol, fabric, settings.batch_size, advance)
    pooled = PooledResults(results)
    if settings.out is not None:
        for fold, item in results.items():
            folder = fold_folder(settings.out, fold)
            folder.mkdir(parents=True, exist_ok=True)
            item.write(folder)
        pooled.write(settings.out)
        write_run_report(settings.out, pooled, about, _now(), subjects=title, warnings=choice.warnings)
    print_scores(pooled, title)
    _conclude(choice.warnings, settings.out and settings.out / "report.html")


def _compare(settings: Options) -> None:
    from mol_fast.evaluation.compare import compare_runs
    from mol_fast.report.comparison import write_comparison
    from mol_fast.report.terminal import print_comparison

    assert settings.compare is not None
    a, b = _read_runs(settings.compare, settings.partial)
    comparison = compare_runs(a, b)
    about = {"A": str(a.path), "B": str(b.path)}
    if settings.out is not None:
        _open_out(settings.out, about, {"compared": [str(path.resolve()) for path in settings.compare]})
    print_comparison(comparison, a, b)
    if settings.out is not None:
        values = {**about, "warnings": [*a.warnings, *b.warnings], **comparison.to_dict()}
        write_atomic(settings.out / "comparison.json", json.dumps(values, indent=2) + "\n")
        write_comparison(settings.out / "comparison.html", comparison, a, b, about, _now())
    _conclude((), settings.out and settings.out / "comparison.html")


def _table(settings: Options) -> None:
    from mol_fast.report.paper_table import paper_table

    paths, problems = _every_run(settings.table, settings.partial)
    left_out = [f"{problem}; the table is without it" for problem in problems]
    table = paper_table(_read_runs(paths, settings.partial), left_out)
    if settings.out is not None:
        given = {"table": [str(path) for path in settings.table]}
        _open_out(settings.out, given, {"table": [str(path.resolve()) for path in settings.table]})
        table.write(settings.out)
    print(table.markdown(), end="")
    for note in table.notes:
        print(f"warning: {note}", file=sys.stderr, flush=True)
    if settings.out is not None:
        print(f"written to {settings.out}: table.md, table.tex", flush=True)


def _every_run(paths: Sequence[Path], partial: bool) -> tuple[list[Path], list[str]]:
    """Return the paths, with the runs of its models instead of a folder of several, and why some of them are left out.

    Raises:
        UserError: no run in such a folder can be used.
    """
    from mol_fast.runs.stored import holds_models, read_models

    every: list[Path] = []
    problems: list[str] = []
    for path in paths:
        if not holds_models(path):
            every.append(path)
            continue
        found, left_out = read_models(path, MODELS, partial)
        if not found:
            raise UserError(f"no run in {path} can be used: {left_out[0]}")
        every += [run.path for run in found]
        problems += left_out
    return every, problems


def _read_runs(paths: Sequence[Path], partial: bool) -> list["StoredRun"]:
    """Read runs, and tables of predictions for the held-out videos of the first run.

    Raises:
        UserError: a run or a table cannot be used, or there are tables alone.
    """
    from mol_fast.runs.foreign import is_table, read_foreign
    from mol_fast.runs.stored import read_run

    runs = {path: read_run(path, partial) for path in paths if not is_table(path)}
    if not runs:
        raise UserError("there are only tables of predictions: add a run, which tells the videos and their labels")
    first = next(iter(runs.values()))
    return [runs.get(path) or read_foreign(path, first) for path in paths]


def _spotting(settings: Options) -> None:
    from mol_fast.data.recordings import open_recordings
    from mol_fast.evaluation.spotting import find_recognisers, recognise, spot_recordings
    from mol_fast.report.spotting import print_spotting
    from mol_fast.training.fabric import make_fabric

    assert settings.spotting is not None
    recordings = open_recordings(settings.spotting)
    if not recordings:
        raise UserError(f"{settings.spotting} has no long videos: give a set such as prepare samm-lv makes")
    recognisers, warnings = find_recognisers(settings.weights, recordings) if settings.weights else ([], [])
    if settings.out is not None:
        about = {"spotting": str(settings.spotting), "weights": settings.weights and str(settings.weights)}
        files = [file_sha256(item.file) for item in recognisers]
        _open_out(settings.out, about, {"spotting": str(settings.spotting.resolve()), "weights": files})
    with progress("frame", every=20_000) as begin:
        results = spot_recordings(recordings, begin("spotting", sum(recording.frames for recording in recordings)))
    if recognisers:
        fabric = make_fabric(settings.device, settings.precision)
        with progress() as begin:
            count = sum(recording.person in item.subjects for item in recognisers for recording in recordings)
            results = recognise(results, recognisers, fabric, settings.batch_size, begin("recognising", count))
    if settings.out is not None:
        results.write(settings.out)
    print_spotting(results)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if settings.out is not None:
        print(f"written to {settings.out}: spotting.json, megc_spotting.log, megc_spotting_baseline.log", flush=True)


def _open_out(path: Path, about: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Create the folder of --out, or raise UserError if it holds results of another evaluation."""
    from mol_fast.runs.folder import open_folder

    if open_folder(path, about, identity, "--out"):
        raise UserError(f"{path} holds results of another evaluation: choose another --out, or remove it")


def _conclude(warnings: Iterable[str], page: Path | None) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if page is not None:
        print(f"written to {page.parent}: open {page}", flush=True)


def _now() -> str:
    return f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"


if __name__ == "__main__":
    sys.exit(main())
