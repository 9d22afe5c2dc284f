"""Refuse uploads that are too large, and delete what is left of uploads that break off."""

from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

_AROUND = 64 * 1024  # bytes of a request beside its file


class Uploads:
    """A layer of the server that uploads pass through.

    Args:
        app: the ASGI application below.
        folder: folder of the uploads. A whole one lies in a folder of its own there, one in progress does not.
        limit: bytes of the largest file that is taken.
    """

    def __init__(self, app: Any, folder: Path, limit: int) -> None:
        self._app = app
        self._folder = folder
        self._limit = limit
        self._in_progress = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if int(length) > self._limit + _AROUND:
            told = f"the file is larger than the limit of {self._limit} bytes"
            await PlainTextResponse(told, 413, {"connection": "close"})(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            pass  # there is nobody to tell
        finally:
            self._in_progress -= 1
            if not self._in_progress:
                self._tidy()

    def _tidy(self) -> None:
        """Delete parts of files. No upload is in progress, so none of them will become whole."""
        for path in self._folder.glob("*"):
            if path.is_file():
                path.unlink(missing_ok=True)
