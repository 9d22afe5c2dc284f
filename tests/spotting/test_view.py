"""The flow of a moment: the face without its head."""

import cv2
import numpy as np

from mol_fast.data import generate_long
from mol_fast.spotting import face_flow


def test_the_motion_of_the_head_is_taken_away() -> None:
    chunk = next(generate_long(1, "still", seconds=2).chunks())
    frame, landmarks = chunk.frames[0].numpy(), chunk.landmarks[0].numpy()
    y, x = np.indices(frame.shape, dtype=np.float32)
    at_mouth = np.exp(-(np.square(x - landmarks[54, 0]) + np.square(y - landmarks[54, 1])) / 128)
    head = np.stack([0.8 + 0.01 * (y - 72), -0.6 - 0.01 * (x - 72)])  # a shift and a roll
    moved = cv2.remap(frame, x - head[0], y - head[1] + 1.5 * at_mouth, cv2.INTER_CUBIC)  # the corner goes up
    flow = face_flow(frame, moved, landmarks)
    assert flow.shape == (2, 144, 144)
    corner_x, corner_y = landmarks[54].round().astype(int)
    assert -1.8 < flow[1, corner_y, corner_x] < -1.0
    face = np.hypot(*flow)[at_mouth < 0.01][np.hypot(x - 72, y - 72)[at_mouth < 0.01] < 50]
    assert np.median(face) < 0.15
    assert np.median(np.hypot(*head)) > 0.9
