"""Triton kernels, file by file of an operator. Importing this package needs no triton and initialises no device."""
