"""Spot the moments at which a face moves in a long video: onset, apex, offset, strength, regions, micro or macro."""

from mol_fast.spotting.main_direction import MainDirection
from mol_fast.spotting.regions import REGIONS
from mol_fast.spotting.spotter import LEAST_FPS, Moment, Region, Spotter, spot
from mol_fast.spotting.table import moment_row, moments_csv

__all__ = ["LEAST_FPS", "REGIONS", "MainDirection", "Moment", "Region", "Spotter", "moment_row", "moments_csv", "spot"]
