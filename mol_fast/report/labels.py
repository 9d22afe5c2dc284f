"""Labels of scores, in reports and on the terminal."""

from collections.abc import Iterable, Mapping

from mol_fast.data.embedded.generate import EMBEDDED
from mol_fast.data.heads import HEADS
from mol_fast.metrics import BINS, FAILURE, Evaluation
from mol_fast.report.spread import count, spread
from mol_fast.runs.calibration import NOT_CALIBRATED
from mol_fast.runs.pooled import PooledResults

SYNTHETIC = frozenset((EMBEDDED, HEADS))
"""Sources of generated videos, whose scores say nothing about real micro-expressions."""
_IN_WORDS = {EMBEDDED: "morphs of two photographs", HEADS: "synthetic heads"}
RECOGNITION = {"accuracy": "accuracy", "uf1": "UF1", "uar": "UAR", "wf1": "WF1"}
"""Labels of the recognition scores, by name."""
LABELS = RECOGNITION | {
    "end_point_error": "end-point error, px",
    "end_point_error_zero_flow": "of zero flow, px",
    "end_point_error_moving": "end-point error, moving pixels, px",
    "end_point_error_moving_zero_flow": "of zero flow, moving pixels, px",
    "end_point_error_moving_share": "moving pixels, relative to zero flow",
    "landmark_error": "landmark error, % of inter-ocular distance",
    "landmark_failure_rate": f"landmark failures, share of frames over {FAILURE:.0f} %",
    "unit_f1": "F1 of action units, mean over those that occur",
}
"""Labels of all main scores, by name."""
SUBJECTS = "held-out subjects"
BESIDE = ("score", "last step", "chosen on test")


PARTS = ("part", "videos", *RECOGNITION.values())


def largest_shares(shares: Mapping[str, float]) -> str:
    """Say which three facial regions have the largest shares: "chin 40 %, nose 20 %, upper lip 9 %"."""
    best = sorted(shares.items(), key=lambda region: -region[1])[:3]
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in best)


def is_synthetic(evaluations: Iterable[Evaluation]) -> bool:
    """Return whether some of the predicted videos are generated ones, whoever the weights were trained on."""
    return any(video.video.person.source in SYNTHETIC for item in evaluations for video in item.videos())


def sources_in_words(sources: Iterable[str]) -> str:
    """Name sources of videos, generated ones by what they show."""
    return " and ".join(_IN_WORDS.get(source, source) for source in sources)


def part_rows(pooled: PooledResults) -> list[tuple[str, ...]]:
    """Return the recognition scores of all videos ("full") and of each source; no rows for a run of one source."""
    parts = pooled.parts()
    if not parts:
        return []
    full = {seed: scores.recognition for seed, scores in pooled.scores.items()}
    return [
        (
            name,
            count([sum(map(sum, item.confusion)) for item in seeds.values()]),
            *(spread([getattr(item, score) for item in seeds.values()]) for score in RECOGNITION),
        )
        for name, seeds in (("full", full), *parts.items())
    ]


def calibration_text(pooled: PooledResults) -> str:
    """Say how far confidence is from accuracy, as it is and with temperatures."""
    calibrations = pooled.calibrations.values()
    text = f"{spread([item.before.error for item in calibrations])} ({BINS} bins)"
    after = [item.after.error for item in calibrations if item.after is not None]
    if not after:
        return f"{text}, {NOT_CALIBRATED}"
    found = [value for item in calibrations for value in item.temperatures.values()]
    return f"{text}, {spread(after)} with temperature {min(found):.2f} to {max(found):.2f}"


def chosen_rows(pooled: PooledResults, chosen: PooledResults) -> list[tuple[str, str, str]]:
    """Return every main score at the last step and at the step chosen on the held-out subjects."""
    deviation = len(pooled.scores) > 1
    parts = pooled.statistics(), chosen.statistics()

    def cell(item: Mapping[str, float]) -> str:
        return f"{item['mean']:.4f}" + (f" ± {item['std']:.4f}" if deviation else "")

    return [(LABELS[name], cell(item), cell(parts[1][name])) for name, item in parts[0].items() if name in parts[1]]
