"""The checks of `python -m mol_fast.doctor`. Only this package of mol_fast may import the reference."""
