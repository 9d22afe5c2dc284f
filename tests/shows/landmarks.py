"""Compare both finders of faces; prints the tables of mol_fast/vision/README.md.

    python tests/shows/landmarks.py

It needs the extra `dlib`, and takes about a minute on one core.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from harness.people import COLLINS, HOPPER, eye_distance, noisy, photograph  # noqa: E402

from mol_fast.data.embedded.action_units import EMOTIONS  # noqa: E402
from mol_fast.data.embedded.motion import make_motion  # noqa: E402
from mol_fast.data.embedded.rendering import render_clip  # noqa: E402
from mol_fast.data.embedded.subjects import make_subject  # noqa: E402
from mol_fast.vision.align import alignment, inverse, transform  # noqa: E402
from mol_fast.vision.faces import Face, FaceFinder  # noqa: E402
from mol_fast.vision.finders import open_finder  # noqa: E402
from mol_fast.vision.sizes import FRAME, interval  # noqa: E402

PARTS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "lips": slice(48, 68),
}
CORNERS = np.array([(36.0, 36), (108, 36), (108, 108), (36, 108)])  # of the middle of the aligned frame

Points = npt.NDArray[np.floating]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stills", type=int, default=16, help="noisy copies of each photograph")
    parser.add_argument("--subjects", type=int, default=4, help="rendered subjects")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    finders = {"MediaPipe": open_finder("mediapipe"), "dlib": open_finder("dlib")}
    print_jitter(finders, arguments.stills)
    print_parts(finders)
    print_renders(finders, arguments.subjects)


def print_jitter(finders: dict[str, FaceFinder], stills: int) -> None:
    """Root mean square movement of the alignment of a still, in % of the inter-ocular distance."""
    columns = [f"{name}, {how}" for name in finders for how in ("found", "followed")]
    print("| photograph | noise | " + " | ".join(columns) + " |")
    for name in (COLLINS, HOPPER):
        picture, truth = photograph(name)
        for level in (1, 2, 4):
            rng = np.random.default_rng(0)
            frames = [noisy(picture, level, rng) for _ in range(stills)]
            values = []
            for finder in finders.values():
                found = [face for frame in frames if (face := finder.find(frame))]
                first = found[0]
                followed = []
                for frame in frames:
                    first = finder.update(frame, first)
                    followed.append(first)
                values += [spread(faces) / eye_distance(truth) for faces in (found, followed)]
            print(f"| {name} | {level} | " + " | ".join(f"{value:.2%}" for value in values) + " |")


def spread(faces: list[Face]) -> float:
    """Root mean square distance of the middle of the aligned frame from its mean place, in pixels of the picture."""
    places = np.array([transform(CORNERS, inverse(alignment(face.landmarks))) for face in faces])
    return float(np.sqrt(((places - places.mean(0)) ** 2).sum(-1).mean()))


def print_parts(finders: dict[str, FaceFinder]) -> None:
    """Distance of MediaPipe's landmarks from dlib's, in % of the inter-ocular distance; time for each picture."""
    print("\n| photograph | " + " | ".join(PARTS) + " | find, ms | follow, ms | dlib: find, ms |")
    for name in (COLLINS, HOPPER):
        picture, _ = photograph(name)
        faces, times = {}, {}
        for which, finder in finders.items():
            times[which] = milliseconds(lambda finder=finder, picture=picture: finder.find(picture))
            face = finder.find(picture)
            assert face is not None
            faces[which] = face
        follow = milliseconds(lambda: finders["MediaPipe"].update(picture, faces["MediaPipe"]))  # noqa: B023
        distance = np.linalg.norm(faces["MediaPipe"].landmarks - faces["dlib"].landmarks, axis=1)
        parts = [distance[part].mean() / eye_distance(faces["dlib"].landmarks) for part in PARTS.values()]
        shares = " | ".join(f"{value:.1%}" for value in parts)
        print(f"| {name} | {shares} | {times['MediaPipe']:.0f} | {follow:.0f} | {times['dlib']:.0f} |")


def print_renders(finders: dict[str, FaceFinder], subjects: int) -> None:
    """Error of landmarks, and of their motion, on renders with exact truth. In the neutral face, the truth is dlib's.

    The motion is that from the first frame; its error is a share of the true motion.
    """
    sums = {name: np.zeros(4) for name in finders}
    for index in range(subjects):
        subject = make_subject(0, index, 16)
        for emotion in EMOTIONS:
            rng = np.random.default_rng([index, 7])
            clip = render_clip(rng, subject, make_motion(rng, emotion, 12), interval(12))
            frames, truth = clip[0].numpy(), clip[1].numpy().astype(float)
            for name, finder in finders.items():
                wide = [np.pad(frame, FRAME // 2, mode="edge") for frame in frames]
                face = finder.find(wide[0])
                if face is None:
                    continue
                points = []
                for frame in wide:
                    face = finder.update(frame, face)
                    points.append(face.landmarks - FRAME // 2)
                found = np.array(points, dtype=float)
                moved, true = found - found[0], truth - truth[0]
                sums[name] += (
                    np.linalg.norm(found - truth, axis=-1)[:, 17:].mean() / eye_distance(truth[0]),
                    (moved - true)[:, 17:].var(),
                    true[:, 17:].var(),
                    1,
                )
    print("\n| on renders | clips | landmark error | error of the motion / motion |")
    for name, (error, off, motion, clips) in sums.items():
        print(f"| {name} | {clips:.0f} | {error / clips:.1%} | {np.sqrt(off / motion):.2f} |")


def milliseconds(work, repeats: int = 5) -> float:
    work()
    started = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - started) / repeats * 1000


if __name__ == "__main__":
    main()
