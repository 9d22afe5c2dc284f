"""How near the landmarks of weights are to those of the finders: `python tests/shows/portraits.py PICTURE...`.

A picture shows a face. The default finder finds and aligns it, as `predict` does. Prints the distance of the weights'
landmarks from those of each finder that is installed, and of the finders from each other, in % of the distance between
the eyes, and writes the pictures with all points beside each other to portraits.png.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))

import mol_fast
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import alignment, eye_centres, transform
from mol_fast.vision.finders import open_finder

PARTS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
    "all": slice(0, 68),
}
COLOURS = {"weights": (0, 255, 0), "mediapipe": (0, 128, 255), "dlib": (255, 128, 0)}
SIDE = 480

Points = npt.NDArray[np.floating]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--weights", default="general", help="weights; default: those that come with mol-fast")
    given = parser.parse_args()
    finders = {}
    for name in ("mediapipe", "dlib"):
        try:
            finders[name] = open_finder(name)
        except UserError as error:
            print(f"{name}: {error}")
    print(f"| picture | compared | {' | '.join(PARTS)} |\n|{'---|' * (2 + len(PARTS))}")
    shown = []
    for path in given.pictures:
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            sys.exit(f"{path} is no picture that OpenCV reads")
        points: dict[str, Points] = {"weights": mol_fast.landmarks(picture[None], given.weights)[0]}
        for name, finder in finders.items():
            face = finder.find(picture)
            if face is not None:
                points[name] = face.landmarks
        names = list(points)
        for place, name in enumerate(names):
            for other in names[place + 1 :]:
                error = distance(points[name], points[other])
                values = " | ".join(f"{100 * error[part].mean():.1f} %" for part in PARTS.values())
                print(f"| {path.name} | {name}, {other} | {values} |", flush=True)
        shown.append(drawn(picture, points))
    cv2.imwrite("portraits.png", np.hstack(shown))


def distance(points: Points, true: Points) -> Points:
    """Return the distance (68,) of points, relative to the distance between the eyes."""
    error: Points = np.linalg.norm(points - true, axis=-1) / np.linalg.norm(np.diff(eye_centres(true), axis=0))
    return error


def drawn(picture: npt.NDArray[np.uint8], points: dict[str, Points]) -> npt.NDArray[np.uint8]:
    """Return the aligned face with all points on it."""
    matrix = alignment(points["weights"], SIDE)
    scale = float(np.hypot(*matrix[0, :2]))
    smooth = cv2.GaussianBlur(picture, (0, 0), 0.5 / scale) if scale < 1 else picture
    crop = cv2.cvtColor(cv2.warpAffine(smooth, matrix, (SIDE, SIDE)), cv2.COLOR_GRAY2BGR)
    for name, own in points.items():
        for x, y in transform(own, matrix).round().astype(int).tolist():
            cv2.circle(crop, (x, y), 2, COLOURS[name], -1, cv2.LINE_AA)
    return np.asarray(crop, np.uint8)


if __name__ == "__main__":
    main()
