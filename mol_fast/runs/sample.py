"""A sample: one pair of frames of a scored clip, with truth and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mol_fast.utils.names import VideoId

SHOWN = 6
"""Number of samples that a fold keeps and a report shows."""


@dataclass(frozen=True)
class Sample:
    """One pair of frames of a clip. Arrays are numpy arrays or CPU tensors.

    Attributes:
        source, subject, video: identity of the video.
        label, predicted: true and predicted class of the video.
        probabilities: probability of each class, for the video.
        first_frame: (H, W), first frame of the window; uint8, or floats of any scale.
        frame: (H, W), second frame of the pair, on the same scale.
        landmarks_true, landmarks_predicted: (68, 2) as (x, y) in pixels of `frame`; the predicted may be None.
        flow_true, flow_predicted: (2, H, W) in pixels, from the frame before to `frame`; the predicted may be None.
        note: which frame this is, or why it is shown; may be empty.
        attribution: (h, w), share of each cell of the picture in the Grad-CAM of the predicted class; None if unknown.
        regions: share of each facial region in it; may be empty.
        sentence: what moves in the predicted flow, in words; may be empty.

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
    """

    source: str
    subject: str
    video: str
    label: str
    predicted: str
    probabilities: Mapping[str, float]
    first_frame: npt.ArrayLike
    frame: npt.ArrayLike
    landmarks_true: npt.ArrayLike
    landmarks_predicted: npt.ArrayLike | None
    flow_true: npt.ArrayLike
    flow_predicted: npt.ArrayLike | None
    note: str = field(default="")
    attribution: npt.ArrayLike | None = None
    regions: Mapping[str, float] = field(default_factory=dict)
    sentence: str = ""

    @property
    def id(self) -> VideoId:
        """Identity of the video."""
        return VideoId(self.source, self.subject, self.video)

    def __post_init__(self) -> None:
        size = np.shape(self.frame)
        expected = {
            "frame": size if len(size) == 2 else ("H", "W"),
            "first_frame": size,
            "landmarks_true": (68, 2),
            "landmarks_predicted": (68, 2),
            "flow_true": (2, *size),
            "flow_predicted": (2, *size),
        }
        if self.attribution is not None:
            cells = np.shape(self.attribution)
            expected["attribution"] = cells if len(cells) == 2 else ("h", "w")
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is None and name.endswith("_predicted"):
                continue
            if np.shape(value) != shape:
                raise ValueError(f"{name} of a sample must be {shape}, got {np.shape(value)}")
            if not np.isfinite(np.asarray(value)).all():
                raise ValueError(f"{name} of a sample has values that are not finite")
