"""Check imports and sizes of rooms, and print the longest chain: `python tests/harness/rooms.py`.

A room is a folder of `mol_fast/`, or a file that lies there directly. A room imports from lower layers only.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LAYERS = (
    ("train", "predict", "prepare", "evaluate", "doctor", "show", "faces", "export", "demo"),
    ("cli", "report", "training", "prediction", "preparation", "checks"),
    ("evaluation", "baselines", "explain"),
    ("runs", "data", "nn", "spotting"),
    ("functional", "metrics", "tvl1"),
    ("ops", "vision"),
    ("kernels",),
    ("utils",),
)
"""Highest first. Rooms of one layer do not import each other."""
LONGEST = 7
"""Rooms in the longest chain of imports."""
MAPPED = {"kernels": "kernels", "reference": "reference"}
"""Rooms that lie beside `mol_fast/`, see `package-dir` in pyproject.toml."""
MOST_FILES = 12
"""Files directly in `mol_fast/`."""
MOST_LINES = 400
"""Lines of a file; kernels may be longer."""

_LEVEL = {room: number for number, layer in enumerate(LAYERS) for room in layer}


class House:
    """The modules of a checkout, and which imports which.

    Args:
        root: folder with `pyproject.toml`, `mol_fast`, `kernels` and `reference`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = dict(sorted((name, file) for name, file in _modules(root)))
        self.imports = {name: sorted(self._imports(name, file)) for name, file in self.files.items()}

    def problems(self) -> list[str]:
        """What is wrong, one sentence each."""
        return [*self._wrong_arrows(), *self._circles(), *self._unpackaged(), *self._crowded()]

    def longest_chain(self) -> list[str]:
        """The rooms of the longest chain of imports, highest first."""
        arrows: dict[str, set[str]] = {}
        for name, imported in self.imports.items():
            arrows.setdefault(_room(name), set()).update(map(_room, imported))

        @cache
        def chain(room: str) -> tuple[str, ...]:
            below = [chain(other) for other in sorted(arrows.get(room, ())) if _lower(other, room)]
            return (room, *max(below, key=len, default=()))

        return list(max((chain(room) for room in sorted(arrows) if room in _LEVEL), key=len))

    def _wrong_arrows(self) -> Iterator[str]:
        for name, imported in self.imports.items():
            room = _room(name)
            if room not in _LEVEL and room not in ("", "reference"):
                yield f"{name} lies in no room of a layer: name its room in LAYERS"
            for other in imported:
                below = _room(other)
                if room in ("", below) or _lower(below, room) or (room, below) == ("checks", "reference"):
                    continue
                yield f"{name} imports {other}: {room} must not import {below or 'the package itself'}"

    def _circles(self) -> Iterator[str]:
        done: set[str] = set()

        def walk(name: str, path: list[str]) -> Iterator[str]:
            if name in path:
                yield f"{' > '.join([*path[path.index(name) :], name])} is a circle of imports"
            elif name not in done:
                for other in self.imports[name]:
                    yield from walk(other, [*path, name])
                done.add(name)

        for name in self.imports:
            if name != "mol_fast":  # the front door imports every room
                yield from walk(name, [])

    def _unpackaged(self) -> Iterator[str]:
        told = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
        folders = {name if file.name == "__init__.py" else name.rpartition(".")[0] for name, file in self.files.items()}
        for folder in sorted(folders - set(told)):
            yield f"pyproject.toml does not package {folder}"
        for folder in sorted(set(told) - folders):
            yield f"pyproject.toml packages {folder}, which is not there"

    def _crowded(self) -> Iterator[str]:
        loose = [file for file in self.files.values() if file.parent == self.root / "mol_fast"]
        if len(loose) > MOST_FILES:
            yield f"{len(loose)} files lie directly in mol_fast, at most {MOST_FILES} may: give some a room"
        for name, file in self.files.items():
            lines = len(file.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES and _room(name) != "kernels":
                yield f"{name} has {lines} lines, at most {MOST_LINES} are allowed: split it by subject"

    def _imports(self, name: str, file: Path) -> set[str]:
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        found: set[str] = set()
        for node in _import_statements(file.read_text(encoding="utf-8")):
            if isinstance(node, ast.Import):
                found.update(self._module(alias.name) for alias in node.names)
            else:
                parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
                module = ".".join(part for part in (parent, node.module) if part)
                found.update(self._module(f"{module}.{alias.name}") for alias in node.names)
        return found - {"", name}

    def _module(self, dotted: str) -> str:
        """The module that holds what is imported; empty where it is not one of this package."""
        while dotted and dotted not in self.files:
            dotted = dotted.rpartition(".")[0]
        return dotted


@cache
def _import_statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    """Those of a module, also inside functions. Parsing takes the time of the whole check: a second one is quick."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, package in (("mol_fast", "mol_fast"), *((path, f"mol_fast.{room}") for room, path in MAPPED.items())):
        for file in (root / folder).rglob("*.py"):
            parts = (package, *file.relative_to(root / folder).with_suffix("").parts)
            yield ".".join(parts).removesuffix(".__init__"), file


def _room(name: str) -> str:
    """The room of a module, empty for the package itself."""
    return [*name.split("."), ""][1]


def _lower(room: str, than: str) -> bool:
    return room in _LEVEL and than in _LEVEL and _LEVEL[room] > _LEVEL[than]


def main() -> int:
    """Print the longest chain and what is wrong; returns the exit code."""
    house = House(Path(__file__).resolve().parents[2])
    chain = house.longest_chain()
    problems = house.problems()
    if len(chain) > LONGEST:
        problems.append(f"the longest chain has {len(chain)} rooms, at most {LONGEST} are allowed")
    print(f"longest chain of imports, {len(chain)} rooms: {' > '.join(chain)}")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
