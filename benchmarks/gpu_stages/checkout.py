"""Import `mol_fast` from a checkout that is not installed, through folders of links with the package's layout.

What Python compiles is kept in these folders. So only the first process of a run compiles it.
"""

import shutil
from pathlib import Path

PARTS = {"kernels": "kernels", "reference": "reference"}
"""Folders of the checkout that are installed inside `mol_fast`."""
TABLE = "tiles.json"
"""Copied, not linked, because a run writes the tiles it finds to it."""


def link(root: Path, folder: Path) -> Path:
    """Make `folder`, for the import path, from the checkout `root`, and return its table of best tiles."""
    package = folder / "mol_fast"
    _link_entries(root / "mol_fast", package)
    for name, source in PARTS.items():
        _link_entries(root / source, package / name)
    table = package / "kernels" / TABLE
    content = table.read_bytes() if table.exists() else b"{}\n"
    table.unlink(missing_ok=True)
    table.write_bytes(content)
    return table


def _link_entries(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name == "__pycache__":
            continue
        if entry.is_dir():
            _link_entries(entry, target / entry.name)
            continue
        try:
            (target / entry.name).symlink_to(entry.resolve())
        except OSError:  # a disk without links
            shutil.copy(entry, target / entry.name)
