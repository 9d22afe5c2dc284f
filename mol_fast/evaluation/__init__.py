"""Score models on held-out clips, and compare runs."""
