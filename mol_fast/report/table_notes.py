"""What differs between the runs of a table besides the model, so that their rows cannot be compared as they are."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from mol_fast.runs.stored import StoredRun
from mol_fast.utils.names import VideoId

_OF_TRAINING = (
    "steps", "batch_size", "lr", "warmup", "schedule", "weight_decay", "clip_norm", "balance", "selection", "flip",
    "crops", "textures", "init", "freeze",
)  # fmt: skip
_OF_MOL = (
    "preset", "center", "difference", "neighbors", "tasks", "stills", "expression_weight", "flow_weight",
    "landmark_weight", "unit_weight",
)  # fmt: skip

Runs = Mapping[str, StoredRun]
"""Runs by their names in the table."""


def notes_on(runs: Runs) -> tuple[str, ...]:
    """Return one sentence for everything that differs, and the warnings of each run.

    Args:
        runs: the runs; the held-out videos of the others are compared with those of the first.
    """
    ours = {name: run for name, run in runs.items() if "identity" in run.about}  # others are predictions alone
    scored = [name for name, run in ours.items() if run.about["settings"].get("weights")]
    trained = {name: run for name, run in ours.items() if name not in scored and run.about["settings"]["steps"]}
    mol = {name: run for name, run in trained.items() if "baseline" not in run.about["model"]}
    return (
        *_on_videos(runs),
        *(f"{name} scores weights: what they learned from, and how, is not compared" for name in scored),
        *_differing("folds", {name: _groups(run) for name, run in ours.items()}, _told_groups),
        *_differing("seeds", {name: sorted({fold.seed for fold in run.folds}) for name, run in ours.items()}),
        *_differing("precision", _found("precision", trained)),
        *_differing("training videos", _found("labels", ours), lambda digest: f"digest {digest[:8]}"),
        *(note for key in _OF_TRAINING for note in _on_setting(key, trained)),
        *(note for key in _OF_MOL for note in _on_setting(key, mol)),
        *(f"{name}: {warning}" for name, run in runs.items() for warning in run.warnings),
    )


def _on_videos(runs: Runs) -> list[str]:
    """Return notes about runs whose seeds hold out different videos, or others than the first run."""
    first, *_ = runs
    videos = {name: _by_seed(run) for name, run in runs.items()}
    uneven = [name for name, seeds in videos.items() if len(set(seeds.values())) > 1]
    whole = {name: frozenset[VideoId]().union(*seeds.values()) for name, seeds in videos.items()}
    others = [name for name in runs if whole[name] != whole[first]]
    notes = []
    if others:
        notes.append(f"{', '.join(others)} held out other videos than {first}: their scores cannot be compared")
    if uneven:
        notes.append(f"the seeds of {', '.join(uneven)} held out different videos: their scores cannot be compared")
    return notes


def _by_seed(run: StoredRun) -> dict[int, frozenset[VideoId]]:
    seeds: dict[int, frozenset[VideoId]] = {}
    for fold, results in run.folds.items():
        held_out = frozenset(video.video for video in results.evaluation.videos())
        seeds[fold.seed] = seeds.get(fold.seed, frozenset()) | held_out
    return seeds


def _groups(run: StoredRun) -> frozenset[Hashable]:
    """Return the groups of subjects that a run holds out together."""
    return frozenset(
        frozenset(video.video.person for video in results.evaluation.videos()) for results in run.folds.values()
    )


def _told_groups(groups: Any) -> str:
    largest = max(map(len, groups))
    return f"{len(groups)} of {'one subject' if largest == 1 else f'up to {largest} subjects'}"


def _on_setting(key: str, runs: Runs) -> list[str]:
    known = {name: run.about["settings"][key] for name, run in runs.items() if key in run.about["settings"]}
    return _differing(f"--{key.replace('_', '-')}", known)


def _found(key: str, runs: Runs) -> dict[str, Any]:
    """Return a part of the identity of runs: as it was found out, not as it was asked."""
    return {name: run.about["identity"][key] for name, run in runs.items() if key in run.about["identity"]}


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)


def _differing(what: str, values: Mapping[str, Any], told: Callable[[Any], str] = _shown) -> list[str]:
    """Return a note that lists the runs with each value, if the values differ."""
    groups: list[tuple[Any, list[str]]] = []
    for name, value in values.items():
        names = next((names for other, names in groups if other == value), None)
        if names is None:
            groups.append((value, [name]))
        else:
            names.append(name)
    if len(groups) < 2:
        return []
    parts = (f"{told(value)} for {', '.join(names)}" for value, names in groups)
    return [f"not all runs have the same {what}: {'; '.join(parts)}"]
