"""Operators in batched PyTorch, for devices without Triton. Every file has a twin in `reference/` and `kernels/`."""
