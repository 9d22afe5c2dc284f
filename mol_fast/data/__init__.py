"""Prepared sets: the on-disk format, the embedded set, and the clips that training reads."""
