"""From frames and trained weights to classes, landmarks and flow: what `python -m mol_fast.predict` does."""
