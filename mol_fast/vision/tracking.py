"""Follow one person through a video, from frame to frame, and tell shots and people apart.

A face is found once and then followed. It is searched again when it is lost and after a cut. Who it is then is told by
its place and by its looks: the directions of the edges in the aligned face, compared with those of everyone seen
before. That tells the few people of one video apart; it recognises nobody.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mol_fast.utils.errors import UserError
from mol_fast.vision.align import alignment, warp
from mol_fast.vision.boxes import overlap
from mol_fast.vision.faces import Face, FaceFinder

NO_FACE = "no face"
OTHER_PERSON = "other person"

_THUMBNAIL = (32, 18)  # pixels, width and height
_SHOT_LIKENESS = 0.6  # of consecutive frames; below it is a cut. Frames of one shot have over 0.9
_LEAST_CHANGE = 8  # grey levels; a smaller mean change is no cut
_LOOK = 64  # pixels of the aligned face whose edges are compared
_SAMPLES = 0.5  # of that picture per pixel of the frame, along each side; its edges are blurred anyway
_LOOK_SCALE = 1.9  # side of that picture / longer side of eyes, nose and mouth: no hair, no background
_LIKE = 0.55  # likeness of faces of the same person; 99 % of pairs of different people have less than 0.6
_BROKEN = 0.4  # likeness of a face to itself in the frame before; below, the follower has slipped to something else
_UNMOVED = 0.99  # likeness of a face to what is seen in its place later; less if it moves by 1.5 % of its eye distance
_NEW_VIEW = 0.85  # a face that is less like the known views of its person is a new view
_MOST_VIEWS = 8
_NEAR = 0.3  # overlap of a face with its last place
_COUNT_AGAIN = 25  # frames, after which all faces are searched, to count people
_LOOK_CLOSER = 10  # frames without a face, after which small ones are searched

Look = npt.NDArray[np.float32]


class Sight(NamedTuple):
    """What is seen of the followed person on a frame."""

    face: Face | None
    shot: int  # number of the shot, from 0; it grows with every cut
    reason: str | None  # why there is no face


class Follower(Protocol):
    """Somebody who follows a person through the frames of a video, such as `FaceTracker`."""

    person: int

    @property
    def people(self) -> int: ...
    def look(self, frame: npt.NDArray[np.uint8]) -> Sight: ...
    def pass_by(self, frame: npt.NDArray[np.uint8]) -> None: ...
    def check(self, name: str) -> None: ...


class FaceTracker:
    """Follower of one person through the frames of one video.

    People are numbered as they appear; those that appear together by size, the largest first.

    Args:
        finder: finder of faces.
        person: number of the person to follow, from 1.
        rest: most frames, one after the other, for which a face that has not moved is taken from the frame before.

    Raises:
        UserError: `person` is less than 1.
    """

    def __init__(self, finder: FaceFinder, person: int = 1, rest: int = 0) -> None:
        if person < 1:
            raise UserError(f"the number of the person to follow must be at least 1, got {person}")
        self.person = person
        self._rest = rest
        self._rested = 0  # frames since the finder has seen the person
        self._finder = finder
        self._shots = _Shots()
        self._people: list[_Person] = []
        self._since_search = 0
        self._without = 0  # frames without the person, one after the other

    @property
    def people(self) -> int:
        """Number of people seen so far."""
        return len(self._people)

    def look(self, frame: npt.NDArray[np.uint8]) -> Sight:
        """Return what is seen of the person on the next frame, uint8 (H, W)."""
        self.pass_by(frame)
        face = self._unmoved(frame) or self._follow(frame)
        self._since_search += 1
        others = False
        if face is None or self._since_search >= _COUNT_AGAIN:
            others = self._search(frame, face)
            face = self._followed.face if self._followed else None
        self._without = 0 if face is not None else self._without + 1
        reason = None if face is not None else OTHER_PERSON if others else NO_FACE
        return Sight(face, self._shots.number, reason)

    def pass_by(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take notice of a frame whose faces are not of interest: a cut may be before it."""
        if self._shots.cut_before(frame):
            for person in self._people:
                person.face = None

    def check(self, name: str) -> None:
        """Raise UserError if the person was never seen in the video called `name`."""
        if not self.people:
            raise UserError(f"no face found in {name}; give faces that look into the camera, or a lower --min-score")
        if self.people < self.person:
            seen = "1 person is" if self.people == 1 else f"{self.people} people are"
            raise UserError(f"only {seen} seen in {name}, there is no --person {self.person}")

    @property
    def _followed(self) -> "_Person | None":
        return self._people[self.person - 1] if self.person <= len(self._people) else None

    def _unmoved(self, frame: npt.NDArray[np.uint8]) -> Face | None:
        """Return the person's last face if it may rest and the frame still shows it there; that takes a tenth."""
        person = self._followed
        if person is None or person.face is None or self._rested >= self._rest:
            return None
        look = _look(frame, person.face)
        if look is None or float(look @ person.look) < _UNMOVED:
            return None
        self._rested += 1
        return person.face

    def _follow(self, frame: npt.NDArray[np.uint8]) -> Face | None:
        """Return the person's face if it is still near its last place, and still looks the same."""
        person = self._followed
        if person is None or person.face is None:
            return None
        face = self._finder.follow(frame, person.face)
        look = None if face is None else _look(frame, face)
        if face is None or look is None or float(look @ person.look) < _BROKEN:
            person.face = None
            return None
        person.seen(face, look)
        self._rested = 0
        return face

    def _search(self, frame: npt.NDArray[np.uint8], followed: Face | None) -> bool:
        """Search all faces, and tell who they are. The face that is followed stays as it is.

        Returns:
            Whether there are any faces.
        """
        self._since_search = 0
        thorough = followed is None and self._without % _LOOK_CLOSER == 0
        found = self._finder.find_all(frame, thorough, followed)
        faces = [(face, look) for face in found if (look := _look(frame, face)) is not None]
        pairs = [
            (person.affinity(*face), i, k) for i, person in enumerate(self._people) for k, face in enumerate(faces)
        ]
        who: dict[int, int] = {}
        for affinity, i, k in sorted(pairs, reverse=True):
            if affinity > 0 and i not in who.values() and k not in who:
                who[k] = i
        keep = self._followed if followed is not None else None
        for person in self._people:
            if person is not keep:
                person.face = None
        for k, (face, look) in enumerate(faces):
            if k not in who:
                self._people.append(_Person(face, look, [look]))
            elif self._people[who[k]] is not keep:
                self._people[who[k]].seen(face, look)
        if keep is not None and keep.face is not None:
            keep.face = keep.face._replace(found=max(len(faces), 1))
        return bool(faces)


class Track:
    """What a follower saw on every frame of a video.

    A frame takes about 1 kB: all points but the 68 landmarks are forgotten.

    Args:
        follower: the follower, at the first frame.
    """

    def __init__(self, follower: Follower) -> None:
        self.person = follower.person
        self._follower = follower
        self._sights: list[Sight] = []

    @property
    def people(self) -> int:
        """Number of people seen so far."""
        return self._follower.people

    @property
    def seen(self) -> int:
        """Number of frames so far that show the person."""
        return sum(sight.face is not None for sight in self._sights)

    def __getitem__(self, index: int) -> Sight:
        """Return what was seen on a frame, by its index."""
        return self._sights[index]

    def look(self, frame: npt.NDArray[np.uint8]) -> Sight:
        """Return what is seen of the person on the next frame, uint8 (H, W)."""
        sight = self._follower.look(frame)
        self._sights.append(sight._replace(face=sight.face and sight.face._replace(mesh=None)))
        return self._sights[-1]

    def check(self, name: str) -> None:
        """Raise UserError if the person was never seen in the video called `name`."""
        self._follower.check(name)


@dataclass
class _Person:
    """Somebody in the video."""

    face: Face | None  # where it was last; None if it was not there, or before a cut
    look: Look  # of that face
    views: list[Look]  # different looks of the person

    def affinity(self, face: Face, look: Look) -> float:
        """Return how well a face fits to the person: above 1 by its place, to 1 by its looks, 0 if it does not."""
        likeness = max(float(view @ look) for view in self.views)
        near = 0.0 if self.face is None else overlap(self.face.box, face.box)
        if near >= _NEAR and likeness >= _BROKEN:
            return 1 + near
        return likeness if likeness >= _LIKE else 0.0

    def seen(self, face: Face, look: Look) -> None:
        self.face, self.look = face, look
        if len(self.views) < _MOST_VIEWS and max(float(view @ look) for view in self.views) < _NEW_VIEW:
            self.views.append(look)


class _Shots:
    """Counter of shots, by thumbnails of consecutive frames."""

    def __init__(self) -> None:
        self.number = 0
        self._last: npt.NDArray[np.float32] | None = None

    def cut_before(self, frame: npt.NDArray[np.uint8]) -> bool:
        """Return whether there is a cut between the last frame and this one. Light that goes on or off is none."""
        import cv2

        thumbnail = cv2.resize(frame, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        thumbnail -= thumbnail.mean()
        last, self._last = self._last, thumbnail
        if last is None or np.abs(thumbnail - last).mean() < _LEAST_CHANGE:
            return False
        norms = float(np.linalg.norm(thumbnail) * np.linalg.norm(last))
        cut = norms == 0 or float((thumbnail * last).sum()) / norms < _SHOT_LIKENESS
        self.number += cut
        return cut


def _look(frame: npt.NDArray[np.uint8], face: Face) -> Look | None:
    """Return the directions of edges in the aligned face, as a vector of length 1; None if it cannot be aligned."""
    import cv2

    try:
        matrix = alignment(face.landmarks, _LOOK, _LOOK_SCALE)
    except ValueError:
        return None
    picture = cv2.GaussianBlur(warp(frame, matrix, _LOOK, _SAMPLES).astype(np.float32), (0, 0), 2)
    edges = np.stack([cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)])
    strength = np.hypot(*edges)
    edges = edges / (strength + 0.5 * strength.mean() + 1e-3)  # so that light counts little
    small = np.stack([cv2.resize(part, (_LOOK // 2, _LOOK // 2), interpolation=cv2.INTER_AREA) for part in edges])
    small -= small.mean((1, 2), keepdims=True)
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), dtype=np.float32).ravel()
