"""Joint estimation of facial micro-expression, optical flow and landmarks."""

__version__ = "0.1.0"
