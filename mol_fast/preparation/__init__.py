"""Convert raw releases of data sets into prepared sets, for `python -m mol_fast.prepare`."""
