"""Limits of what is read: sizes that no file of ours reaches, so that a hostile or broken one is refused early."""

MEGABYTE = 2**20

LARGEST_JSON = 16 * MEGABYTE
"""Bytes of a JSON file; a manifest of 20 000 videos has about 10 MB."""
LARGEST_TABLE = 256 * MEGABYTE
"""Bytes of a CSV table or a sheet, unzipped."""
MOST_ROWS = 1_000_000
"""Rows of a table, as many as a spreadsheet has."""
MOST_COLUMNS = 1024
LONGEST_TEXT = 1024
"""Characters of a name or a cell."""
MOST_CLASSES = 1000
