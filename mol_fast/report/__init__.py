"""Show scores to people: HTML reports with embedded pictures, and tables on the terminal."""
