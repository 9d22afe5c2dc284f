"""The section of sample clips: predictions beside the truth."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from mol_fast.metrics import MOVING, FlowScores, flow_sums, landmark_errors
from mol_fast.report.figures import landmarks_png, lay_places, pixels_png
from mol_fast.report.html import Html, captioned, element, picture, section, share_bar, table
from mol_fast.report.labels import largest_shares
from mol_fast.runs.sample import Sample
from mol_fast.vision.flow_color import color_wheel_legend, flow_to_color


def sample_section(samples: Sequence[Sample], of: str = "") -> Html:
    """Show landmarks, flow in colour and class probabilities of each sample. `of` says where all come from."""
    legend = element(
        "p",
        "Landmarks: ",
        element("span", "○ true", class_="true-mark"),
        ", ",
        element("span", "+ predicted", class_="predicted-mark"),
        ". Flow: colour shows the direction, as on the wheel. White is still, the rim of the wheel is the longest true "
        "motion of the pair, darker colours are longer. True and predicted flow have the same scale.",
        class_="note",
    )
    origin = [element("p", of, class_="note")] if of else []
    return section("Sample clips", *origin, legend, *map(_article, samples))


def _article(sample: Sample) -> Html:
    right = sample.label == sample.predicted
    verdict = element("span", "right" if right else "wrong", class_="right" if right else "wrong")
    heading = element("h3", f"Subject {sample.subject}, video {sample.video}", _origin(sample))
    classes = element("p", f"True class {sample.label}, predicted {sample.predicted}: ", verdict, _note(sample))
    moves = [element("p", f"Motion: {sample.sentence}.")] if sample.sentence else []
    return element("article", heading, classes, *moves, _panels(sample), _probabilities(sample))


def _origin(sample: Sample) -> Html:
    return element("span", f" of {sample.source}" if sample.source else "", class_="note")


def _note(sample: Sample) -> Html:
    return element("span", f" · {sample.note}" if sample.note else "", class_="note")


def _panels(sample: Sample) -> Html:
    first_frame, frame = _grey(sample.first_frame, sample.frame)
    panels = [(pixels_png(first_frame), "First frame of the window", "")]
    if sample.landmarks_predicted is not None:
        true, predicted = np.asarray(sample.landmarks_true), np.asarray(sample.landmarks_predicted)
        error = float(landmark_errors(_batch(predicted), _batch(true)))
        caption = f"Landmarks: mean error {error:.1f} % of the inter-ocular distance"
        panels.append((landmarks_png(frame, true, predicted), caption, ""))
    else:
        panels.append((pixels_png(frame), "Second frame of the pair", ""))
    if sample.attribution is not None:
        most = f": {largest_shares(sample.regions)}" if sample.regions else ""
        caption = f"Where {sample.predicted} comes from (Grad-CAM){most}"
        panels.append((pixels_png(lay_places(frame, np.asarray(sample.attribution))), caption, ""))
    if sample.flow_predicted is not None:
        true, predicted = np.asarray(sample.flow_true), np.asarray(sample.flow_predicted)
        errors = flow_sums(_batch(predicted), _batch(true)).scores()
        longest = max(float(np.hypot(*true.astype(np.float64)).max()), MOVING)
        panels += [
            (pixels_png(flow_to_color(true, longest)), f"True flow, at most {longest:.2f} px", ""),
            (pixels_png(flow_to_color(predicted, longest)), f"Predicted flow: {_flow_error(errors)}", ""),
            (pixels_png(color_wheel_legend(112)), f"Rim: {longest:.2f} px", "wheel"),
        ]
    figures = (captioned(picture(png, alt=caption), caption, class_) for png, caption, class_ in panels)
    return element("div", *figures, class_="panels")


def _flow_error(errors: FlowScores) -> str:
    if errors.moving_error is None:
        return f"end-point error {errors.error:.3f} px; nothing moves"
    return (
        f"end-point error of moving pixels {errors.moving_error:.3f} px, of zero flow {errors.moving_zero_error:.3f} px"
    )


def _probabilities(sample: Sample) -> Html:
    rows = []
    for name, value in sample.probabilities.items():
        rows.append((name, share_bar(value), f"{value:.3f}"))
    return table((), rows)


def _batch(values: npt.NDArray[np.floating]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float64))[None]


def _grey(*frames: npt.ArrayLike) -> list[npt.NDArray[np.uint8]]:
    """Return frames as uint8; other types are scaled together, so that the darkest is 0 and the brightest 255."""
    arrays = [np.asarray(frame) for frame in frames]
    if all(array.dtype == np.uint8 for array in arrays):
        return arrays
    low, high = min(array.min() for array in arrays), max(array.max() for array in arrays)
    scale = 255 / max(float(high - low), 1e-9)
    return [np.rint((array - low) * scale).astype(np.uint8) for array in arrays]
