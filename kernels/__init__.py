"""Triton kernels, by operator. Importing this package needs no triton and initialises no device."""
