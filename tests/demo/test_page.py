"""The page as its visitors meet it: over HTTP, and in a browser."""

import asyncio
import csv
import importlib.util
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest
from aiohttp import ClientSession
from harness.browser import needs_chromium
from harness.devtools import PATIENCE, Tab, chromium, first_tab
from harness.predict_scene import CLASSES, write_weights
from PIL import Image

from mol_fast.data import generate_long
from mol_fast.demo import example, words
from mol_fast.demo.serving import POLICY, served
from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.utils.errors import UserError
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import rgb
from mol_fast.vision.write_video import VideoWriter

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio is not installed")
LIMIT = 4 * 1024**2


class Served(NamedTuple):
    """A page that is served."""

    address: str
    folder: Path

    def get(self, path: str, **headers: str) -> Any:
        return urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers), timeout=PATIENCE)

    def post(self, path: str, data: bytes, kind: str) -> Any:
        request = urllib.request.Request(self.address + path, data, {"Content-Type": kind})
        return json.load(urllib.request.urlopen(request, timeout=PATIENCE))

    def upload(self, name: str, content: bytes) -> str:
        """Give a file to the page. Returns its place."""
        head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--edge--\r\n"
        (place,) = self.post("gradio_api/upload", body, "multipart/form-data; boundary=edge")
        return str(place)

    def find(self, place: str, visitor: str) -> None:
        """Press the button, as the page does."""
        self._call("gradio_api/queue/join", "find", "click", place, visitor)

    def give(self, place: str, visitor: str) -> None:
        """Say that a video is uploaded, as the page does."""
        self._call("gradio_api/run/predict", "video", "upload", place, visitor)

    def _call(self, path: str, part: str, event: str, place: str, visitor: str) -> None:
        config = self.config()
        (target,) = ([item["id"], event] for item in config["components"] if item["props"].get("elem_id") == part)
        (number,) = (call["id"] for call in config["dependencies"] if target in map(list, call["targets"]))
        video = {"path": place, "meta": {"_type": "gradio.FileData"}} if place else None
        call = {"data": [video], "fn_index": number, "session_hash": visitor}
        self.post(path, json.dumps(call).encode(), "application/json")

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.load(self.get("config"))
        return config

    def told(self, visitor: str) -> Iterator[dict[str, Any]]:
        """What a visitor is told while he waits."""
        with self.get(f"gradio_api/queue/data?session_hash={visitor}") as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    weights = write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = Options(weights=weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_SHARE", "True")  # settings of another page do not open this one
        patch.setenv("GRADIO_ALLOWED_PATHS", "/")
        patch.setattr(words, "LIMIT", LIMIT)
        with served(options, Predictor(weights, "cpu"), port) as address:
            from gradio.utils import get_upload_folder

            folder = Path(get_upload_folder())
            yield Served(address, folder)
        assert not folder.exists()


def film(path: Path) -> Path:
    """Two seconds of the example, with a frown from 0.87 to 1.33 s."""
    video = generate_long(example.SUBJECT, "expressions", example.SECONDS, example.FPS)
    frames = np.concatenate([chunk.frames.numpy() for chunk in video.chunks()])[130:190]
    with VideoWriter(path, (320, 320), example.FPS, crf=10) as writer:
        for frame in frames:
            writer.write(rgb(np.pad(cv2.resize(frame, (240, 240)), 40, constant_values=110)))
    return path


@needs_gradio
def test_nothing_comes_from_elsewhere(page: Served) -> None:
    with page.get("") as answer:
        source = answer.read().decode()
        assert answer.headers["Content-Security-Policy"] == POLICY
    for address in re.findall(r'(?:src|href|srcset)\s*=\s*"([^"]*)"', source):
        assert not re.match(r"(\w+:)?//", address)
    assert page.config()["stylesheets"] == []
    styles = [*re.findall(r'href="([^"]+\.css)"', source), "theme.css"]
    assert len(styles) >= 2
    for style in styles:
        text = page.get(style.removeprefix("./")).read().decode()
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", text)
    assert set(re.findall(r"--font(?:-mono)?: ([^;]+);", text)) == {"system-ui, sans-serif", "ui-monospace, monospace"}
    assert not page.config()["analytics_enabled"]


@needs_gradio
def test_it_is_served_to_this_machine_alone(page: Served) -> None:
    assert page.address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError) as refused:  # a site whose name leads to this machine
        page.get("config", Host="example.org")
    assert refused.value.code == 400
    with pytest.raises(urllib.error.HTTPError) as refused:
        page.get("gradio_api/file=/etc/passwd")
    assert refused.value.code == 403


@needs_gradio
def test_a_large_file_is_refused(page: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        page.upload("large.mp4", bytes(LIMIT + 1))
    assert refused.value.code == 413


@needs_gradio
def test_a_file_that_is_announced_as_too_large_is_refused_before_it_is_sent(page: Served) -> None:
    with _begun(page, LIMIT + 2**20) as sending:
        assert sending.recv(4096).startswith(b"HTTP/1.1 413 ")


@needs_gradio
def test_nothing_stays_of_an_upload_that_breaks_off(page: Served, capfd: pytest.CaptureFixture[str]) -> None:
    def parts() -> list[Path]:
        return [path for path in page.folder.iterdir() if path.is_file()]

    with _begun(page, LIMIT):
        wait_until(parts)
        with _begun(page, LIMIT):
            wait_until(lambda: len(parts()) == 2)
    wait_until(lambda: not parts())
    assert Path(page.upload("whole.mp4", b"4")).read_bytes() == b"4"
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err


def _begun(page: Served, length: int) -> socket.socket:
    """Begin an upload of so many bytes. Returns the connection."""
    host, _, port = page.address.removeprefix("http://").strip("/").partition(":")
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n"
    part = '--edge\r\nContent-Disposition: form-data; name="files"; filename="part.mp4"\r\n\r\n'
    connection = socket.create_connection((host, int(port)), PATIENCE)
    connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=edge\r\n\r\n{part}".encode() + bytes(1000))
    return connection


def message_of(done: dict[str, Any]) -> str:
    """What the page says after a press of the button."""
    assert done["success"]
    message, found, *_ = done["output"]["data"]
    assert not found
    return str(message)


@needs_gradio
def test_a_file_that_is_no_video_is_a_sentence(page: Served, capfd: pytest.CaptureFixture[str]) -> None:
    place = page.upload("bad.mp4", b"no video")
    page.give(place, "bad")
    page.find(place, "bad")
    (done,) = (message for message in page.told("bad") if message["msg"] == "process_completed")
    assert "The file cannot be read as video, check that" in message_of(done)
    assert not list(page.folder.glob("results/*"))
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err


@needs_gradio
def test_the_second_visitor_waits_for_the_first(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended, together = threading.Event(), threading.Event(), []

    def analyse(path: Path, *arguments: object) -> None:
        together.append(path.name)
        begun.set()
        assert ended.wait(PATIENCE)
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr("mol_fast.demo.page.analyse", analyse)
    monkeypatch.setattr("mol_fast.demo.page.internal_error", lambda error, program: f"{program}: {error}")
    places = {name: page.upload(f"{name}.mp4", name.encode()) for name in ("first", "second")}
    for name, place in places.items():
        page.give(place, name)
    page.find(places["first"], "first")
    assert begun.wait(PATIENCE)
    page.find(places["second"], "second")
    told = page.told("second")
    place = next(message for message in told if message["msg"] == "estimation")
    assert (place["rank"], place["queue_size"], together) == (0, 1, ["first.mp4"])
    ended.set()
    (done,) = (message for message in told if message["msg"] == "process_completed")
    assert "Demo: nobody expected this." in message_of(done)
    assert together == ["first.mp4", "second.mp4"]


class Endless:
    """An analysis that goes on until the page stops it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []

    def __call__(self, path: Path, out: Path, *arguments: Any) -> None:
        *_, progress, _, _ = arguments
        with progress("frame") as begin:
            advance = begin("spotting", 10**9)
            self.begun.append(path.name)
            end = time.monotonic() + PATIENCE
            try:
                while time.monotonic() < end:
                    advance()
                    time.sleep(0.02)
            except UserError:
                self.stopped.append(path.name)
                raise


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@needs_gradio
def test_the_work_for_a_visitor_who_is_gone_ends(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    analyse = Endless()
    monkeypatch.setattr("mol_fast.demo.page.analyse", analyse)
    with page.get("gradio_api/heartbeat/leaver") as heart:
        assert heart.readline()
        place = Path(page.upload("left.mp4", b"3"))
        page.give(str(place), "leaver")
        page.find(str(place), "leaver")
        wait_until(lambda: analyse.begun)
        assert not analyse.stopped
        assert place.exists()
    wait_until(lambda: analyse.stopped)
    wait_until(lambda: not place.exists())


@needs_gradio
def test_another_video_ends_the_analysis_of_the_one_before_without_a_word(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse = Endless()
    monkeypatch.setattr("mol_fast.demo.page.analyse", analyse)
    first, second = (page.upload(f"{name}.mp4", name.encode()) for name in ("one", "two"))
    page.give(first, "changer")
    page.find(first, "changer")
    told = page.told("changer")
    wait_until(lambda: analyse.begun)
    page.give(second, "changer")
    (done,) = (message for message in told if message["msg"] == "process_completed")
    assert done["success"]
    assert all("value" not in part for part in done["output"]["data"])  # nothing on the page changes
    assert analyse.stopped == ["one.mp4"]
    assert not Path(first).exists()
    page.find(second, "changer")
    wait_until(lambda: analyse.begun == ["one.mp4", "two.mp4"])
    page.give("", "changer")
    wait_until(lambda: analyse.stopped == ["one.mp4", "two.mp4"])
    assert not list(page.folder.glob("results/*"))


def test_the_example_is_a_video_of_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "SECONDS", 0.1)
    done: list[None] = []
    example.write_example(tmp_path / "head.mp4", lambda: done.append(None))
    video = VideoFile(tmp_path / "head.mp4")
    assert len(done) == example.frames() == video.count == 3
    (picture, *_) = video
    assert picture.shape == (480, 480, 3)
    assert picture[:50].std() < 2 < 20 < picture[100:380, 100:380].std()


@needs_gradio
@needs_chromium
def test_a_visit_with_a_browser(page: Served, tmp_path: Path, finder: FaceFinder) -> None:
    with chromium(tmp_path / "user", "--use-fake-device-for-media-stream=fps=5") as port:
        asyncio.run(_visit(page, port, film(tmp_path / "head.mp4"), tmp_path))
    end = time.monotonic() + PATIENCE
    while left := [*page.folder.glob("*/head.mp4"), *page.folder.glob("*/*.webm"), *page.folder.glob("results/*")]:
        assert time.monotonic() < end, left
        time.sleep(0.2)


async def _visit(page: Served, port: int, video: Path, folder: Path) -> None:
    """Upload a video, find its moments by keyboard, look at the page, and download a table."""
    async with ClientSession() as session:
        tab = await first_tab(session, port)
        await tab.open(page.address, 1400, 900, False)
        await tab.wait("document.querySelector('#video input[type=file]') !== null")
        await tab.upload("#video input[type=file]", video)
        await tab.wait("document.querySelector('#video video') !== null")
        await _reach(tab, "#find")
        await tab.press("Enter", 13)
        await tab.wait("document.querySelector('#found table, #message [role=alert]') !== null")
        text = await tab.value("document.querySelector('#found').innerText")
        assert "1 moment in 2 s." in text
        assert "inner brow down" in text
        assert any(name in text for name in CLASSES)
        await tab.wait("document.querySelector('#drawn video')?.videoWidth > 200")
        await _download(tab, folder / "loaded")
        for width in (1400, 400):
            for dark in (False, True):
                await tab.resize(width, 900, dark)
                await tab.wait(f"document.body.classList.contains('dark') === {str(dark).lower()}")
                assert await tab.value("document.documentElement.scrollWidth") == width
                shot = folder / f"page-{width}-{'dark' if dark else 'light'}.png"
                await tab.screenshot(shot)
                picture = np.asarray(Image.open(shot).convert("L"))
                assert (np.median(picture[:, :8]) < 60) == dark
        elsewhere = [address for address in tab.requested if not address.startswith((page.address, "data:", "blob:"))]
        assert elsewhere == []
        assert page.address + "theme.css" in "".join(tab.requested)
        (results,) = (annotated.parent for annotated in page.folder.glob("results/*/annotated.mp4"))
        assert json.loads((results / "prediction.json").read_text())["input"] == "head.mp4"
        for told in ("prediction.json", "report.html"):
            assert str(page.folder) not in (results / told).read_text()
        assert list(page.folder.glob("*/head.mp4"))
        await _record(page, tab)


_COUNT_PARTS = """
const start = MediaRecorder.prototype.start;
window.recorded = 0;
MediaRecorder.prototype.start = function (...options) {
  this.addEventListener("dataavailable", event => { window.recorded += event.data.size > 0; });
  start.apply(this, options);
};
"""
"""JavaScript that counts the parts of a recording that hold frames; a slow machine has none for a while."""


async def _record(page: Served, tab: Tab) -> None:
    """Record a video with a camera, which the browser refuses at first."""
    await _press(tab, "Clear")
    await tab.wait("document.querySelector('#found').innerText.trim() === ''")
    assert not [*page.folder.glob("*/head.mp4"), *page.folder.glob("results/*")]
    await tab.call("Browser.setPermission", permission={"name": "camera"}, setting="denied")
    await _press(tab, "Capture from camera")
    await tab.wait("document.querySelector('#video [title=\"grant webcam access\"] button')?.click() ?? true")
    await tab.wait("document.querySelector('#message').innerText.includes('allow it beside the address')")
    await tab.call("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    await tab.value("document.querySelector('#video [title=\"grant webcam access\"] button').click()")
    await tab.wait("document.querySelector('#video video')?.currentTime > 0")
    await tab.value(_COUNT_PARTS)
    await _press(tab, "start recording")
    await tab.wait("window.recorded >= 2")
    await _press(tab, "start recording")
    await tab.wait("document.querySelector('#video [aria-label=\"Clear\"]') !== null")
    await tab.wait("document.querySelector('#message').innerText.trim() === ''")
    (recording,) = page.folder.glob("*/sample.webm")
    video = VideoFile(recording)
    assert video.count >= 2
    (kind,) = (stream.type for stream in av.open(str(recording)).streams)
    assert kind == "video"


async def _press(tab: Tab, label: str) -> None:
    """Press a button of the video, once it is there."""
    await tab.wait(f"document.querySelector('#video [aria-label=\"{label}\"]') !== null")
    await tab.value(f"document.querySelector('#video [aria-label=\"{label}\"]').click()")


async def _reach(tab: Tab, selector: str) -> None:
    """Press the tabulator until an element has the focus."""
    for _ in range(40):
        await tab.press("Tab", 9)
        if await tab.value(f"document.activeElement === document.querySelector('{selector}')"):
            return
    raise AssertionError(f"{selector} cannot be reached by keyboard")


async def _download(tab: Tab, folder: Path) -> None:
    """Download moments.csv by keyboard."""
    folder.mkdir()
    await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    names = await tab.value("[...document.querySelectorAll('#files a')].map(link => link.download)")
    assert names == ["prediction.json", "moments.csv", "report.html", "annotated.mp4"]
    await _reach(tab, '#files a[download="moments.csv"]')
    await tab.press("Enter", 13)
    end = time.monotonic() + PATIENCE
    while not (folder / "moments.csv").exists():
        assert time.monotonic() < end, list(folder.iterdir())
        time.sleep(0.2)
    with open(folder / "moments.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["kind"] == "micro"
