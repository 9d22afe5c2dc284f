"""Limits of what is read: sizes that no file of ours reaches, so that a hostile or broken one is refused early."""

MEGABYTE = 2**20

LARGEST_JSON = 16 * MEGABYTE
"""Bytes of a JSON file; a manifest of 20 000 videos has about 10 MB."""
LARGEST_TABLE = 32 * MEGABYTE
"""Bytes of a CSV table, or of a workbook, unzipped; the sheet of a release has less than one MB."""
MOST_ROWS = 200_000
"""Rows of a table."""
MOST_COLUMNS = 1024
LONGEST_TEXT = 1024
"""Characters of a name or a cell."""
MOST_CLASSES = 1000
MOST_BATCH = 4096
"""Clips in one batch; memory ends long before."""
CONFIDENCE = 0.5
"""Below this probability a class is uncertain by default: if it is calibrated, it is more often wrong than right."""
MOST_FPS = 100_000
"""Frames per second, more than any camera takes of a face."""
MOST_WORKERS = 256
"""Processes that a program starts."""
