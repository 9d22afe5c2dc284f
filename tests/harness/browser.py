"""Chromium without a window, where it is installed."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium is installed")


def headless(user: Path) -> list[str]:
    """The command that starts it; `user` is a folder for its files."""
    assert _CHROMIUM is not None
    return [_CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={user}"]


def screenshot(page: Path, folder: Path, width: int, height: int, dark: bool) -> npt.NDArray[np.uint8]:
    """Show a page in a window of some size. Returns its picture (height, width, 3)."""
    png = folder / "screen.png"
    options = [f"--window-size={width},{height}", "--hide-scrollbars", f"--screenshot={png}"]
    options.append(f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    command = [*headless(folder / "user"), *options, page.resolve().as_uri()]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return np.asarray(Image.open(png).convert("RGB"))
