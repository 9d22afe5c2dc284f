"""The folder of a run: its layout, the results of every fold, and the pooled results."""
