"""What scores are called, in reports and on the terminal."""

from collections.abc import Mapping

from mol_fast.metrics import FAILURE
from mol_fast.runs.pooled import PooledResults

SYNTHETIC = "embedded"
"""Source of the videos whose scores are not those of real micro-expressions."""
RECOGNITION = {"accuracy": "accuracy", "uf1": "UF1", "uar": "UAR", "wf1": "WF1"}
"""Names of the recognition scores, and what they are called."""
LABELS = RECOGNITION | {
    "end_point_error": "end-point error, px",
    "end_point_error_zero_flow": "of zero flow, px",
    "end_point_error_moving": "end-point error, moving pixels, px",
    "end_point_error_moving_zero_flow": "of zero flow, moving pixels, px",
    "end_point_error_moving_share": "moving pixels, relative to zero flow",
    "landmark_error": "landmark error, % of inter-ocular distance",
    "landmark_failure_rate": f"landmark failures, share of frames over {FAILURE:.0f} %",
}
"""Those of all main scores."""
SUBJECTS = "held-out subjects"
BESIDE = ("score", "last step", "chosen on test")


def chosen_rows(pooled: PooledResults, chosen: PooledResults) -> list[tuple[str, str, str]]:
    """Every main score of the last step, and of the step chosen on the held-out subjects."""
    deviation = len(pooled.scores) > 1
    parts = pooled.statistics(), chosen.statistics()

    def cell(item: Mapping[str, float]) -> str:
        return f"{item['mean']:.4f}" + (f" ± {item['std']:.4f}" if deviation else "")

    return [(LABELS[name], cell(item), cell(parts[1][name])) for name, item in parts[0].items() if name in parts[1]]
