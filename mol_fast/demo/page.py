"""The page: its parts, and what happens when a visitor presses a button."""

import contextvars
import html
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from mol_fast.demo import example, words
from mol_fast.demo.visits import Visits
from mol_fast.prediction.analysis import FILES, Begin, analyse
from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.report.moments import write_moments_report
from mol_fast.utils.errors import UserError
from mol_fast.utils.failures import explain, internal_error
from mol_fast.vision.finders import open_finder

_TOLD = 100  # times that progress is told of one piece of work


class Page:
    """Makes the page, and answers it.

    Args:
        options: options of every prediction.
        predictor: the model.
        folder: folder of videos and results, which is deleted in the end.
    """

    def __init__(self, options: Options, predictor: Predictor, folder: Path) -> None:
        self._options = options
        self._predictor = predictor
        self._visits = Visits(folder / "results")
        self._example = folder / "example" / "rendered-head.mp4"
        self._finder = cache(lambda: open_finder(options.faces, options.min_score))

    def blocks(self) -> gr.Blocks:
        """Return the page."""
        with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
            gr.HTML(words.head(self._predictor.header), apply_default_css=False)
            with gr.Row():
                with gr.Column():
                    video = gr.Video(label="Video", sources=["upload", "webcam"], elem_id="video")
                    with gr.Row():
                        find = gr.Button("Find the moments", variant="primary", elem_id="find", min_width=140)
                        show = gr.Button("Example: a rendered head", elem_id="example", min_width=140)
                    gr.HTML(words.privacy(), apply_default_css=False)
                with gr.Column():
                    label = "Landmarks, flow and class"
                    drawn = gr.Video(label=label, interactive=False, elem_id="drawn", buttons=[])
                    files = gr.Files(label="Files to download", interactive=False, visible=False, elem_id="files")
            found = gr.HTML(elem_id="found", apply_default_css=False)
            line: dict[str, Any] = {"concurrency_id": "line", "concurrency_limit": 1, "api_visibility": "private"}
            for given in (video.upload, video.stop_recording):
                given(self._keep, video, None, queue=False, api_visibility="private")
            find.click(self._find, video, [found, drawn, files], show_progress_on=drawn, **line)
            show.click(self._show_example, None, video, **line)
            page.unload(self._end)
        return page

    def _keep(self, video: str | None, request: gr.Request) -> None:
        if video is not None:
            self._visits.keep(str(request.session_hash), Path(video))

    def _end(self, request: gr.Request) -> None:
        self._visits.end(str(request.session_hash))

    def _show_example(self, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        if not self._example.exists():
            self._example.parent.mkdir(parents=True, exist_ok=True)
            with _on_page(progress, lambda: True) as begin, _said(self._example):
                example.write_example(self._example, begin("rendering the example", example.frames()))
        return str(self._example)

    def _find(
        self,
        video: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, str, gr.Files]:
        if video is None:
            raise gr.Error("drop a video first, or take the example", print_exception=False, title="No video")
        visitor, path = str(request.session_hash), Path(video)
        if path != self._example:
            self._visits.keep(visitor, path)
        out = self._visits.new_results(visitor)
        done = None
        try:
            with _said(path):
                done = analyse(
                    path,
                    out,
                    self._options,
                    self._predictor,
                    self._finder,
                    lambda unit: _on_page(progress, lambda: self._visits.waits_for(visitor, out)),
                    write_moments_report,
                )
        finally:
            if done is None or not self._visits.waits_for(visitor, out):
                shutil.rmtree(out, ignore_errors=True)
        files = [str(out / name) for name in FILES if (out / name).exists()]
        return words.results(done), str(out / "annotated.mp4"), gr.Files(files, visible=True)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn errors into a message on the page, which calls a file by its name alone."""
    try:
        yield
    except UserError as error:
        message = str(error)
    except Exception as error:
        message = explain(error) or internal_error(error, "demo")
    else:
        return
    message = html.escape(words.without_options(message.replace(str(path), path.name)))
    raise gr.Error(message, duration=None, print_exception=False, title="This video cannot be analysed")


@contextmanager
def _on_page(progress: gr.Progress, waited_for: Callable[[], bool]) -> Iterator[Begin]:
    """Show progress on the page, and end the work once nobody waits for it."""
    context = contextvars.copy_context()  # it tells Gradio the visitor; work goes on in other threads

    def begin(title: str, total: int) -> Callable[[], None]:
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            if not waited_for():
                raise UserError("the visitor is gone")
            if done % max(1, total // _TOLD) == 0:
                context.copy().run(progress, (done, total), desc=title, unit="frames")

        return advance

    yield begin
