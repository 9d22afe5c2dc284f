"""Score models on held-out clips, and compare finished runs."""
