"""Scores of recognition, optical flow and landmarks.

Ratios are computed in float64 from counts and sums pooled over all batches and folds. They are never averaged over
batches or folds.
"""

from mol_fast.metrics.flow import MOVING, FlowScores, FlowSums, flow_sums
from mol_fast.metrics.landmarks import FAILURE, LandmarkScores, LandmarkSums, landmark_errors, landmark_sums
from mol_fast.metrics.recognition import (
    ClassScores,
    Recognition,
    confusion_matrix,
    recognition_ratios,
    recognition_scores,
    video_scores,
)
from mol_fast.metrics.scores import Evaluation, LabelledWindow, Scores, VideoPrediction

__all__ = [
    "FAILURE",
    "MOVING",
    "ClassScores",
    "Evaluation",
    "FlowScores",
    "FlowSums",
    "LabelledWindow",
    "LandmarkScores",
    "LandmarkSums",
    "Recognition",
    "Scores",
    "VideoPrediction",
    "confusion_matrix",
    "flow_sums",
    "landmark_errors",
    "landmark_sums",
    "recognition_ratios",
    "recognition_scores",
    "video_scores",
]
