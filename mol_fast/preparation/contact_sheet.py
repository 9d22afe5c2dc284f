"""The contact sheet: one picture to check by eye how well a set was prepared."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mol_fast.data.store import Video
from mol_fast.vision.pictures import Picture, captioned, flow_picture, frame_picture, full_colour, grid, wheel_picture

_ROWS = 10
_ZOOM = 2


def contact_sheet(videos: Sequence[Video], apexes: Mapping[tuple[str, str], int | None]) -> Picture:
    """Draw onset, apex and offset of up to 10 videos with landmarks, and the flow into the apex.

    The videos are spread evenly over labels and subjects. If no apex is annotated, the frame with the most motion
    before it is drawn instead.

    Args:
        videos: at least one video.
        apexes: index of the apex, by (subject, name) of the video.

    Raises:
        UserError: a video cannot be read.
    """
    ordered = sorted(videos, key=lambda video: (video.label, video.subject, video.name))
    chosen = sorted(set(np.linspace(0, len(ordered) - 1, min(_ROWS, len(ordered))).round().astype(int).tolist()))
    return grid([_row(ordered[i], apexes.get((ordered[i].subject, ordered[i].name))) for i in chosen])


def _row(video: Video, apex: int | None) -> list[Picture]:
    data = video.read()
    motion = torch.hypot(*data.flow.float().unbind(1)).mean(dim=(1, 2))
    pair = int(motion.argmax()) if apex is None else min(max(apex - video.interval, 0), len(motion) - 1)
    middle = pair + video.interval if apex is None else apex
    scale = full_colour(data.flow[pair])

    def frame(index: int, what: str) -> Picture:
        return captioned(frame_picture(data.frames[index], data.landmarks[index], _ZOOM), f"{what}, frame {index}")

    flow = flow_picture(data.flow[pair], scale, _ZOOM)
    return [
        captioned(frame(0, "onset"), f"{video.label}: {video.subject}/{video.name}"),
        frame(middle, "most motion" if apex is None else "apex"),
        frame(video.frames - 1, "offset"),
        captioned(flow, f"flow from frame {pair} to {pair + video.interval}, mean {float(motion[pair]):.2f} px"),
        captioned(wheel_picture(120), f"rim: {scale:.2f} px"),
    ]
