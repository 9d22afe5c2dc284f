"""Scores of recognition, spotting, optical flow, landmarks and action units.

Ratios are computed in float64 from counts and sums pooled over all batches and folds. They are never averaged over
batches or folds.
"""

from mol_fast.metrics.calibration import BINS, Reliability, fit_temperature, reliability, temper
from mol_fast.metrics.flow import MOVING, FlowScores, FlowSums, flow_sums
from mol_fast.metrics.landmarks import FAILURE, LandmarkScores, LandmarkSums, landmark_errors, landmark_sums
from mol_fast.metrics.places import PlaceScores, moving_region, score_places
from mol_fast.metrics.recognition import (
    ClassScores,
    Recognition,
    confusion_matrix,
    recognition_ratios,
    recognition_scores,
    video_scores,
)
from mol_fast.metrics.scores import Evaluation, LabelledWindow, Scores, VideoPrediction
from mol_fast.metrics.spotting import (
    SpottedVideo,
    SpottingCounts,
    SpottingScores,
    StrsScore,
    megc_log,
    spotting_scores,
    strs_score,
)
from mol_fast.metrics.units import UnitScores, unit_scores
from mol_fast.utils.intervals import (
    KINDS,
    LONGEST_MICRO,
    Interval,
    Kind,
    Match,
    check_intervals,
    kind_of,
    match_intervals,
)

__all__ = [
    "BINS",
    "FAILURE",
    "KINDS",
    "LONGEST_MICRO",
    "MOVING",
    "ClassScores",
    "Evaluation",
    "FlowScores",
    "FlowSums",
    "Interval",
    "Kind",
    "LabelledWindow",
    "LandmarkScores",
    "LandmarkSums",
    "Match",
    "PlaceScores",
    "Recognition",
    "Reliability",
    "Scores",
    "SpottedVideo",
    "SpottingCounts",
    "SpottingScores",
    "StrsScore",
    "UnitScores",
    "VideoPrediction",
    "check_intervals",
    "confusion_matrix",
    "fit_temperature",
    "flow_sums",
    "kind_of",
    "landmark_errors",
    "landmark_sums",
    "match_intervals",
    "megc_log",
    "moving_region",
    "recognition_ratios",
    "recognition_scores",
    "reliability",
    "score_places",
    "spotting_scores",
    "strs_score",
    "temper",
    "unit_scores",
    "video_scores",
]
