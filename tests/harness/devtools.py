"""Drive a page in Chromium without a window, over its DevTools protocol."""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from harness.browser import headless

PATIENCE = 240.0
"""Seconds to wait for anything; a machine that tests on all cores is slow."""


class Tab:
    """A tab of a browser.

    Attributes:
        requested: addresses of everything that the page asked for.
    """

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.requested: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        await self._socket.send_str(json.dumps({"id": self._number, "method": method, "params": parameters}))
        async for message in self._socket:
            assert message.type is WSMsgType.TEXT
            told = json.loads(message.data)
            if told.get("method") == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                result: dict[str, Any] = told["result"]
                return result
        raise AssertionError("the browser ended")

    async def open(self, address: str, width: int, height: int, dark: bool) -> None:
        """Open a page in a window of some size."""
        await self.call("Network.enable")
        await self.call("DOM.enable")
        await self.resize(width, height, dark)
        await self.call("Page.navigate", url=address)

    async def resize(self, width: int, height: int, dark: bool) -> None:
        """Change the size of the window, and its colours."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def wait(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + PATIENCE
        while not (value := await self.value(expression)):
            assert time.monotonic() < end, (expression, await self.value("document.body.innerText"))
            time.sleep(0.2)
        return value

    async def press(self, key: str, code: int) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    async def upload(self, selector: str, path: Path) -> None:
        """Give a file to the input of a page."""
        root = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page, also of what lies below the window."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(folder: Path, *options: str) -> Iterator[int]:
    """Run Chromium inside the context; returns the port of its protocol. `folder` is for its files."""
    command = [
        *headless(folder),
        *options,
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        "--remote-allow-origins=*",
        "about:blank",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        told, end = folder / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)
        yield int(told.read_text().splitlines()[0])
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


async def first_tab(session: ClientSession, port: int) -> Tab:
    """Connect to the first tab."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
        (page,) = (item for item in json.load(answer) if item["type"] == "page")
    return Tab(await session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0))
