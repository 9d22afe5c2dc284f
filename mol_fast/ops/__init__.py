"""Operators as batched PyTorch, for devices without Triton: twins of `reference/` and `kernels/`, file by file."""
