"""From the raw releases of data sets to prepared sets: what `python -m mol_fast.prepare` does."""
