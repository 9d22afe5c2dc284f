"""Operators in batched PyTorch, for devices without Triton. `reference/` and `kernels/` hold the same operators."""
