"""A page to try a model on: drop a video, see when, where and how the face moved."""

from mol_fast.demo.program import main

__all__ = ["main"]
