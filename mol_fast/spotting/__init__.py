"""Spot the moments at which a face moves in a long video: onset, apex, offset, strength, regions, micro or macro."""

from mol_fast.spotting.main_direction import MainDirection
from mol_fast.spotting.moved import Region
from mol_fast.spotting.region_motion import RegionMotion
from mol_fast.spotting.regions import EYELIDS, REGIONS
from mol_fast.spotting.spotter import LATEST, LEAST_FPS, Moment, Spotter, is_slow, spot
from mol_fast.spotting.table import moment_row, moments_csv
from mol_fast.spotting.tracker import GAP
from mol_fast.spotting.view import ShownMoment, View, face_flow

__all__ = [
    "EYELIDS",
    "GAP",
    "LATEST",
    "LEAST_FPS",
    "REGIONS",
    "MainDirection",
    "Moment",
    "Region",
    "RegionMotion",
    "ShownMoment",
    "Spotter",
    "View",
    "face_flow",
    "is_slow",
    "moment_row",
    "moments_csv",
    "spot",
]
