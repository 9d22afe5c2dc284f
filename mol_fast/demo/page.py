"""The page: its parts, and what happens when a visitor presses a button."""

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from mol_fast.demo import browser, example, words
from mol_fast.demo.visits import Visits
from mol_fast.prediction.analysis import FILES, Begin, analyse
from mol_fast.prediction.options import Options
from mol_fast.prediction.predictor import Predictor
from mol_fast.report.html import Html
from mol_fast.report.moments import write_moments_report
from mol_fast.utils.ahead import Begun
from mol_fast.utils.errors import UserError
from mol_fast.utils.failures import explain, internal_error
from mol_fast.vision.finders import open_finder

_TOLD = 100  # times that progress is told of one piece of work

Shown = tuple[str, str, str | None, gr.Files]
"""What the page shows of a video: a message, what was found, the annotated video, files."""


class Page:
    """Makes the page, and answers it.

    Args:
        options: options of every prediction.
        predictor: the model.
        folder: folder of videos and results, which is deleted in the end.
    """

    def __init__(self, options: Options, predictor: Predictor, folder: Path) -> None:
        self._options = options
        self._header, self._begun = predictor.header, Begun(lambda: predictor)
        self._example = folder / "example" / "rendered-head.mp4"
        self._visits = Visits(folder / "results", self._example)
        self._finder = cache(lambda: open_finder(options.faces, options.min_score))

    def blocks(self) -> gr.Blocks:
        """Return the page."""
        with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
            gr.HTML(words.head(self._header), apply_default_css=False)
            with gr.Row():
                with gr.Column():
                    webcam = gr.WebcamOptions(constraints=browser.CAMERA)
                    sources = ["upload", "webcam"]
                    video = gr.Video(label="Video", sources=sources, webcam_options=webcam, elem_id="video")
                    with gr.Row():
                        find = gr.Button("Find the moments", variant="primary", elem_id="find", min_width=140)
                        show = gr.Button("Example: a rendered head", elem_id="example", min_width=140)
                    message = gr.HTML(elem_id="message", apply_default_css=False, js_on_load=browser.WATCH)
                    gr.HTML(words.privacy(), apply_default_css=False)
                with gr.Column():
                    label = "Landmarks, flow and class"
                    drawn = gr.Video(label=label, interactive=False, elem_id="drawn", buttons=[])
                    files = gr.Files(label="Files to download", interactive=False, visible=False, elem_id="files")
            found = gr.HTML(elem_id="found", apply_default_css=False)
            shown = [message, found, drawn, files]
            for given in (video.upload, video.stop_recording, video.clear):
                given(self._give, video, shown, queue=False, show_progress="hidden", api_visibility="private")
            find.click(
                self._find,
                video,
                shown,
                show_progress_on=drawn,
                trigger_mode="always_last",  # a press during the end of the analysis before is not lost
                concurrency_id="line",
                concurrency_limit=1,
                api_visibility="private",
            )
            show.click(
                self._show_example,
                None,
                [video, *shown],
                show_progress_on=video,
                concurrency_id="example",
                concurrency_limit=1,
                api_visibility="private",
            )
            page.unload(self._end)
        return page

    def _give(self, video: str | None, request: gr.Request) -> Shown:
        """Take another video, or none: the analysis of the one before ends, and nothing of it stays on the page."""
        self._visits.give(str(request.session_hash), None if video is None else Path(video))
        return _nothing()

    def _end(self, request: gr.Request) -> None:
        self._visits.end(str(request.session_hash))

    def _show_example(
        self,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        if not self._example.exists():
            self._example.parent.mkdir(parents=True, exist_ok=True)
            try:
                with _on_page(progress, lambda: True) as begin:
                    example.write_example(self._example, begin("rendering the example", example.frames()))
            except Exception as error:
                return gr.skip(), *_nothing(_said(error, self._example, "The example cannot be rendered"))
        return str(self._example), *self._give(str(self._example), request)

    def _find(
        self,
        video: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown | dict[str, Any]:
        if video is None:
            return _nothing(words.message("No video", "Drop a video first, record one, or take the example."))
        visitor, path = str(request.session_hash), Path(video)
        out = self._visits.begin(visitor, path)
        if out is None:
            return gr.skip()
        try:
            done = analyse(
                path,
                out,
                self._options,
                self._header,
                self._begun,
                self._finder,
                lambda unit: _on_page(progress, lambda: self._visits.waits_for(visitor, out)),
                write_moments_report,
                path.name,
            )
        except Exception as error:
            wanted = self._visits.waits_for(visitor, out)
            self._visits.drop(visitor, out)
            return _nothing(_said(error, path, "This video cannot be analysed")) if wanted else gr.skip()
        if not self._visits.waits_for(visitor, out):
            self._visits.drop(visitor, out)
            return gr.skip()
        files = [str(out / name) for name in FILES if (out / name).exists()]
        return "", words.results(done, path), str(out / "annotated.mp4"), gr.Files(files, visible=True)


def _nothing(message: str = "") -> Shown:
    """Show no results, but perhaps a message."""
    return message, "", None, gr.Files(None, visible=False)


def _said(error: Exception, path: Path, title: str) -> Html:
    """Return an error as a message on the page."""
    text = str(error) if isinstance(error, UserError) else explain(error) or internal_error(error, "demo")
    return words.message(title, words.sentence(words.of_page(text, path)))


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
                raise UserError("nobody waits for this analysis any more")
            if done % max(1, total // _TOLD) == 0:
                context.copy().run(progress, (done, total), desc=title, unit="frames")

        return advance

    yield begin
