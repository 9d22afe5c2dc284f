"""A prepared set whose index names action units: some of them, in doubt, none, or nothing about them."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from mol_fast.data import PreparedSet
from mol_fast.data.store import write_index

ANNOTATED = {"surprise": "1+2", "happiness": "6+L12", "disgust": "4+7?", "repression": "", "others": "0"}
"""Action units of the videos of each emotion, as a sheet might write them."""


def annotate(prepared: PreparedSet, folder: Path) -> PreparedSet:
    """Copy an embedded set, without copying its videos, and name action units in the index of the copy."""
    shutil.copytree(prepared.path, folder, copy_function=os.link)
    videos = [
        replace(video, path=folder / video.path.relative_to(prepared.path), action_units=ANNOTATED[video.label])
        for video in prepared.videos
    ]
    write_index(folder, videos, json.loads((folder / "set.json").read_text()))
    return PreparedSet.open(folder)
