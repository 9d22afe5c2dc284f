"""Predict classes, landmarks and flow from frames and trained weights, for `python -m mol_fast.predict`."""
