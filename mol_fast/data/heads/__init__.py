"""The second generator: three-dimensional heads with exact flow, landmarks and action units."""

HEADS = "heads"
"""Source of the videos; scores on them say nothing about real micro-expressions."""
