"""Prepared sets: files on disk, the embedded set, protocols, and clips for training."""

from mol_fast.data.clips import Clip, ClipDataset, crop_clip, cut_window, flip_clip, normalise_frames
from mol_fast.data.embedded.generate import embedded_set, generate_embedded, render_video
from mol_fast.data.embedded.long_set import generate_long_set
from mol_fast.data.embedded.long_video import LongChunk, LongVideo, generate_long
from mol_fast.data.protocols import PROTOCOLS, Counts, Protocol, get_protocol, label_protocol
from mol_fast.data.store import PreparedSet, Video, VideoData, open_sets, write_index, write_video
from mol_fast.vision.ibug import LEFT_EYE, MIRROR, RIGHT_EYE
from mol_fast.vision.sizes import CROP, FRAME, WINDOW

SIZE = FRAME
"""Earlier name of FRAME."""

__all__ = [
    "CROP",
    "FRAME",
    "LEFT_EYE",
    "MIRROR",
    "PROTOCOLS",
    "RIGHT_EYE",
    "SIZE",
    "WINDOW",
    "Clip",
    "ClipDataset",
    "Counts",
    "LongChunk",
    "LongVideo",
    "PreparedSet",
    "Protocol",
    "Video",
    "VideoData",
    "crop_clip",
    "cut_window",
    "embedded_set",
    "flip_clip",
    "generate_embedded",
    "generate_long",
    "generate_long_set",
    "get_protocol",
    "label_protocol",
    "normalise_frames",
    "open_sets",
    "render_video",
    "write_index",
    "write_video",
]
