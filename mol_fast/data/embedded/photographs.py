"""The two photographs of the embedded set, with the landmarks of their faces.

Both are public domain and come with packages: the NASA portrait of Eileen Collins with scikit-image, the US Navy
portrait of Grace Hopper with matplotlib. The landmarks were found once with dlib's 68-point predictor (mean over three
scales). They are constants here, so generating the set needs no landmark detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mol_fast.utils.errors import UserError


@dataclass(frozen=True)
class Photograph:
    """A portrait.

    Attributes:
        name: "astronaut" or "grace-hopper".
        picture: float64 (H, W), grey, 0 to 255.
        landmarks: float64 (68, 2), iBUG order, in pixels of the picture.
    """

    name: str
    picture: Tensor
    landmarks: Tensor


def load_photograph(name: str) -> Photograph:
    """Load "astronaut" or "grace-hopper".

    Raises:
        UserError: scikit-image or matplotlib is not installed.
        KeyError: the name is neither of these.
    """
    points = [[float(value) for value in point.split(",")] for point in _LANDMARKS[name].split()]
    try:
        rgb = _astronaut() if name == "astronaut" else _grace_hopper()
    except ImportError as error:
        raise UserError(
            f"faces are made from photographs in scikit-image and matplotlib ({error}); pip install 'mol-fast[train]'"
        ) from None
    grey = np.asarray(rgb, dtype=np.float64) @ np.array([0.299, 0.587, 0.114])
    return Photograph(name, torch.from_numpy(grey), torch.tensor(points, dtype=torch.float64))


def _astronaut() -> np.ndarray:
    import skimage.data

    return skimage.data.astronaut()


def _grace_hopper() -> np.ndarray:
    import matplotlib.cbook
    import matplotlib.image

    return matplotlib.image.imread(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


PHOTOGRAPHS = ("astronaut", "grace-hopper")
CREDITS = {
    "astronaut": "Eileen Collins, NASA, public domain, from scikit-image",
    "grace-hopper": "Grace Hopper, US Navy, public domain, from matplotlib",
}


def check_photographs(names: Sequence[str]) -> None:
    """Raise ValueError unless all names are of `PHOTOGRAPHS`."""
    if isinstance(names, str) or any(name not in PHOTOGRAPHS for name in names):
        raise ValueError(f"photographs must be names of {', '.join(PHOTOGRAPHS)}, in a list, got {names!r}")


_LANDMARKS = {
    "astronaut": """
    179.3,104.1 179.9,115.8 180.9,127 181.9,138.6 184.9,149.9 190.9,160.1 199.8,168.2 208.9,175.9
    220.2,178.2 231.9,176.9 242.8,171.1 252.8,163.5 260.2,154.2 264.9,143.2 267.8,131.3 270.1,120.2
    271.8,108 186,94.1 191.9,88.1 200.3,87.1 208.6,88.9 216.3,92.2 235.8,93.5 243.8,90.9 251.8,90.5
    259.8,92.1 265.2,98.5 225.8,102.2 225.2,110.8 225.2,118.8 225.1,127.1 214.2,131.1 219.2,132.7
    224.2,134.2 229.2,132.9 234.2,131.8 194.9,101.1 200.2,97.8 206.9,98.2 212.3,103.9 206.2,104.2
    199.5,103.8 237.2,105.5 243.2,100.2 249.8,100.3 255.2,104.5 250.1,106.5 243.8,106.4 200.3,138.9
    208.8,139.1 217.7,139.2 223.4,140.8 229.5,139.9 237.6,140.1 245.9,140.8 237.6,150.9 228.9,154.9
    221.9,155.8 215.8,154.8 207.4,149.7 203.2,140.4 217.4,142.9 222.9,144.1 229.5,143.2 242.8,141.9
    228.9,149.9 222.6,150.5 216.5,149.7
    """,
    "grace-hopper": """
    177.2,202.2 180.4,225.5 185.4,247.6 191.2,269.5 198.4,290.6 209,309.2 226.1,322.5 246.2,330.2
    269.8,331.9 293.1,328.2 311.9,318.4 328,304 338.4,284.2 345.1,262.8 348.8,241.1 351.3,218
    352.8,194.6 188.9,188.5 196.5,172.6 211.8,165.1 229.1,165.1 244.8,170.7 282.5,167.8 297.3,160.5
    314.1,159.5 330.1,165.6 339.1,179.4 265.2,187.9 266,204.5 266.9,220.9 267.8,237.8 247,246
    257,249 268,252.3 278.3,248.8 287.5,245.4 210.2,194.9 218.1,187.5 228.2,186.9 238.5,193.9
    229,195.4 218.8,196.4 290.6,191.6 299.9,183.8 309.9,183.4 318.7,189.4 310.7,191.9 300.6,192.5
    232.5,280.2 244.5,273.4 257.5,271.2 266.8,273.2 276.6,270.8 288.8,272.4 301.4,276.5 289.8,284.1
    277.9,288.2 268.3,290 258.2,289.1 245.3,285.8 237.1,278.8 257.5,277.6 267.3,278.6 276.9,277.4
    296.5,276.8 277.3,278.3 267.7,279.6 257.9,279.2
    """,
}
