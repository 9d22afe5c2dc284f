"""How exact and how fast the generated heads are: `python tests/shows/heads.py [CLIPS]`.

Prints the change of grey levels between the frames of a flow, before and after the flow is undone, over moving pixels
that are seen in both; how far the flow carries landmarks from the true ones; how near the landmarks of dlib are; clips
per second of one process; and whether two processes make the same bytes.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mol_fast.data.embedded.action_units import EMOTIONS
from mol_fast.data.embedded.geometry import pixel_grid, sample
from mol_fast.data.heads.actions import draw_expression
from mol_fast.data.heads.camera import draw_pose
from mol_fast.data.heads.generate import generate_heads, render_head
from mol_fast.data.heads.person import make_person
from mol_fast.data.heads.picture import mean_of_samples
from mol_fast.data.heads.render import render_scene
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import eye_centres
from mol_fast.vision.finders import open_finder

FRAMES = 16
PIXELS = pixel_grid(144, 144)
AMBIENT = np.array([3.5, *[0.0] * 8])  # light from everywhere, so that grey levels move with the skin


def main(clips: int) -> None:
    """Print all figures."""
    before, after, hidden, carried = [], [], [], []
    for clip in range(clips):
        rng = np.random.default_rng([clip, 1])
        person = make_person(rng)
        expression = draw_expression(rng, list(EMOTIONS)[clip % len(EMOTIONS)], FRAMES, 0.03)
        scene = render_scene(rng, person, expression, draw_pose(rng, FRAMES, 25, 15), AMBIENT)
        frames = torch.from_numpy(mean_of_samples(scene.middles.light, scene.corners.light)).double()
        frames *= 255 / frames.max()
        flow, visible = scene.motion.flow.double(), scene.motion.visible
        count, step = len(flow), FRAMES // 8
        moved = sample(frames[step:, None], PIXELS + flow.flatten(2).mT, "bicubic").view(count, 144, 144)
        moving = (flow.norm(dim=1) > 0.1) & torch.from_numpy(scene.middles.shown[:count])
        before.append((frames[step:] - frames[:count]).abs()[moving & visible])
        after.append((moved - frames[:count]).abs()[moving & visible])
        hidden.append((~visible).double().mean())
        here, there = scene.motion.landmarks[:count, 17:], scene.motion.landmarks[step:, 17:]
        carried.append((here + sample(flow.float(), here).mT - there).norm(dim=-1).flatten())
    print(f"{clips} clips of {FRAMES} frames")
    print(
        f"grey levels, of 255: {mean(before):.2f} apart, {mean(after):.2f} after the flow, median {median(after):.2f}"
    )
    print(f"hidden or outside in the later frame: {100 * np.mean(hidden):.2f} % of the pixels")
    print(
        f"landmarks carried by the flow: median {median(carried):.4f} px, 95 % within {quantile(carried, 0.95):.2f} px"
    )
    print_found(clips)
    print_speed(clips)
    with tempfile.TemporaryDirectory() as folder:
        sets = [generate_heads(Path(folder, str(n)), people=3, videos=1, workers=n) for n in (1, 2)]
        one, two = ([video.path.read_bytes() for video in made.videos] for made in sets)
        print(f"one and two processes: {'the same bytes' if one == two else 'DIFFERENT BYTES'}")


def print_found(clips: int) -> None:
    """Compare the landmarks with those that dlib finds, where it is installed."""
    try:
        finder = open_finder("dlib", -1.0)
    except UserError as error:
        print(f"dlib: {error}")
        return
    import cv2

    errors, inner = [], []
    for clip in range(clips):
        rng = np.random.default_rng([clip, 2])
        data = render_head(rng, make_person(rng), "surprise", 8).data
        large = cv2.resize(data.frames[0].numpy(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        face = finder.find(cv2.copyMakeBorder(large, 60, 60, 60, 60, cv2.BORDER_REPLICATE))
        if face is not None:
            true = data.landmarks[0].numpy()
            apart = np.linalg.norm(np.diff(eye_centres(true), axis=0))
            error = np.linalg.norm((face.landmarks - 60 + 0.5) / 2 - 0.5 - true, axis=-1) / apart
            errors.append(error.mean())
            inner.append(error[17:].mean())
    print(
        f"dlib finds {len(errors)} of {clips} faces; its landmarks are {100 * np.median(errors):.1f} % of the "
        f"inter-ocular distance away (median), without the jaw {100 * np.median(inner):.1f} %"
    )


def print_speed(clips: int) -> None:
    """Time whole clips, each of a new person, on one thread."""
    torch.set_num_threads(1)
    start, used = time.perf_counter(), time.process_time()
    for clip in range(clips):
        rng = np.random.default_rng([clip, 3])
        render_head(rng, make_person(rng), "surprise", FRAMES)
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    print(f"one thread: {clips / wall:.2f} clips a second, {cpu / clips:.3f} s of CPU each")


def mean(parts: list[torch.Tensor]) -> float:
    """Mean over all parts."""
    return float(torch.cat(parts).mean())


def median(parts: list[torch.Tensor]) -> float:
    """Median over all parts."""
    return quantile(parts, 0.5)


def quantile(parts: list[torch.Tensor], share: float) -> float:
    """Quantile over all parts."""
    return float(np.quantile(torch.cat(parts).numpy(), share))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
