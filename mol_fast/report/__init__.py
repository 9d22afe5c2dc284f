"""Scores for people: HTML reports with their pictures inside, to be opened from disk, and tables on the terminal."""
