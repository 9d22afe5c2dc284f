"""Triton kernels, one file per operator. Importing this package needs no triton and touches no device."""
