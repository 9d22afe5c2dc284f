"""Helpers for every room: errors, atomic files, versions, memory, processes, devices, tables."""
