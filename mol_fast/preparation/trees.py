"""List the videos of CAS(ME)^3, MMEW, 4DME and DFME, whose frames lie in trees of their own.

No release was seen with its frames. The layouts come from published descriptions, sheets and loaders. So a listing
names the folders that it expected and found.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from mol_fast.preparation.annotated import AnnotatedSet, annotated_video
from mol_fast.preparation.frame_files import named
from mol_fast.preparation.places import Place, no_place, places, preferred
from mol_fast.preparation.release import Listing, RawVideo
from mol_fast.preparation.sheets import Row, find_sheet, read_sheet


@dataclass(frozen=True, kw_only=True)
class TreeLayout(AnnotatedSet):
    """A release whose folders of frames are found by their paths.

    Attributes:
        path: pattern of the end of the path of a folder of frames, or of a video file without its suffix. Group `name`
            is that of the sheet. Group `subject` is a number; without it, names are unique in the set.
        example: such a path, for messages.
        by_onset: one folder may hold several expressions; a video is called NAME_ONSET.
        absent: columns that the sheet does not have.
    """

    path: str
    example: str
    by_onset: bool = False
    absent: tuple[str, ...] = ()

    def video_name(self, row: Row) -> str:
        """Return the name of the video of a row."""
        return f"{row.name}_{row.onset}" if self.by_onset and row.onset is not None else row.name


CASME3 = TreeLayout(
    source="casme3",
    subject="spNO.{}",
    sheets=("*part_A_ME_label*.xlsx",),
    fps=30,
    path=r"spNO\.0*(?P<subject>\d+)/(?P<name>[^/]+)/color",
    example="part_A/spNO.1/a/color",
    by_onset=True,
)
CASME3_C = TreeLayout(
    source="casme3-c",
    subject="C{:02d}",
    sheets=("*part_C_ME*.xlsx",),
    fps=30,
    path=r"0*(?P<subject>\d+)/(?P<name>\d+)/color",
    example="part_C/01/1/color",
    by_onset=True,
    absent=("Apex Frame",),
)
MMEW = TreeLayout(
    source="mmew",
    subject="S{:02d}",
    sheets=("MMEW*Micro*.xlsx", "MMEW*.xlsx"),
    fps=None,
    other_sheets=("*macro*",),
    path=r"(?P<name>S\d+-\d+-\d+)",
    example="S03/happiness/S03-01-002",
)
FDME = TreeLayout(
    source="4dme",
    subject="{:02d}",
    sheets=("4DME*Micro*.xlsx",),
    fps=None,
    path=r"gray_micro/[^/\d]*0*(?P<subject>\d+)/(?P<name>[^/]+)",
    example="gray_micro/01/01_1",
)
DFME = TreeLayout(
    source="dfme",
    subject="sub{:04d}",
    sheets=("DFME*train*.xlsx", "DFME*train*.csv", "*train*.xlsx", "*train*.csv", "DFME*.xlsx", "DFME*.csv"),
    fps=None,
    path=r"(?P<name>sub\d+_\d+)",
    example="train/sub0003_01",
)
TREE_LAYOUTS = {layout.source: layout for layout in (CASME3, CASME3_C, MMEW, FDME, DFME)}


def list_tree(layout: TreeLayout, root: Path, sheet: Path | None) -> Listing:
    """List the annotated videos of a release, from onset to offset.

    Raises:
        UserError: there is no folder of frames, or the sheet is missing or lacks a column.
    """
    listing = Listing(layout.source)
    found = _frames(layout, root, listing)
    path = find_sheet(root, layout.sheets, sheet, layout.other_sheets)
    listing.notes.insert(0, f"folders like {layout.example}: {len(found)}, sheet {path.name}")
    used = set()
    for row in read_sheet(path, layout.absent):
        subject = "" if row.subject is None else layout.subject.format(row.subject)
        key = next((key for key in ((row.subject, row.name.lower()), (None, row.name.lower())) if key in found), None)
        used.add(key)
        frames = found[key].path if key else None
        result = annotated_video(layout, subject, layout.video_name(row), row, frames)
        if isinstance(result, RawVideo):
            listing.videos.append(result)
        else:
            listing.skipped.append(result)
    unused = sorted(place.below for key, place in found.items() if key not in used)
    if unused:
        listing.notes.append(f"folders of frames without a row in the sheet, {len(unused)}: {named(unused)}")
    listing.settle()
    return listing


def _frames(layout: TreeLayout, root: Path, listing: Listing) -> dict[tuple[int | None, str], Place]:
    """Return folders of frames and video files by (subject number or None, lower-case name), preferred ones.

    The listing notes those that are not used. Those of macro-expressions never are.
    """
    found: defaultdict[tuple[int | None, str], list[tuple[int, Place]]] = defaultdict(list)
    macro = []
    for place in places(root, layout.source):
        match = place.match(layout.path)
        if match is None:
            continue
        if place.is_macro():
            macro.append(place.shown)
            continue
        groups = match.groupdict()
        subject = int(groups["subject"]) if "subject" in groups else None
        found[subject, groups["name"].lower()].append((0, place))
    if not found:
        raise no_place(root, layout.source, layout.example)
    best, notes = preferred(found)
    listing.notes += notes
    if macro:
        listing.notes.append(f"folders of macro-expressions, ignored, {len(macro)}: {named(macro)}")
    return best
