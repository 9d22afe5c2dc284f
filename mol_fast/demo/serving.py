"""Serve the page to this machine alone."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.utils.errors import UserError

HOST = "127.0.0.1"
_HOSTS = (HOST, "localhost")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What a browser lets the page load: nothing from elsewhere, whatever Gradio asks for."""


class Closed:
    """A layer of the server that sends `POLICY` with every answer.

    Args:
        app: the ASGI application below.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", []), policy, (b"referrer-policy", b"no-referrer")]
            await send(message)

        await self._app(scope, receive, send_with_policy)


def check_port(port: int) -> None:
    """Raise UserError if the page cannot be served at a port."""
    if not 1 <= port <= 65535:
        raise UserError(f"--port is {port}, must be from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise UserError(f"port {port} needs more rights: give a --port from 1024 on") from None
        except OSError:
            raise UserError(f"port {port} is taken by another program: end it, or give another --port") from None


@contextmanager
def served(options: Options, predictor: Predictor, port: int) -> Iterator[str]:
    """Serve the page inside the context, and delete all videos and results at its end.

    Args:
        options: options of every prediction.
        predictor: the model.
        port: port on this machine.

    Returns:
        The address of the page.

    Raises:
        UserError: the port is taken.
        ModuleNotFoundError: Gradio is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="mol-fast-demo-", ignore_cleanup_errors=True) as name, _alone(name):
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from mol_fast.demo import words
        from mol_fast.demo.page import Page
        from mol_fast.demo.theme import theme
        from mol_fast.demo.uploads import Uploads

        blocks = Page(options, predictor, Path(name)).blocks()
        blocks.queue(default_concurrency_limit=1)
        # The name of the host is checked, so that no page of another site reaches this one under a name of its own.
        layers = [Middleware(TrustedHostMiddleware, allowed_hosts=list(_HOSTS)), Middleware(Closed)]
        layers.append(Middleware(Uploads, folder=Path(name), limit=words.LIMIT))
        try:
            _, address, _ = blocks.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                inbrowser=False,
                max_file_size=words.LIMIT,
                footer_links=[],
                run_history=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                theme=theme(),
                app_kwargs={"middleware": layers},
            )
        except OSError:
            raise UserError(f"port {port} is taken by another program: end it, or give another --port") from None
        try:
            yield address
        finally:
            blocks.close(verbose=False)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Let Gradio keep its files in a folder, send nothing, and obey no setting of its own in the environment."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
