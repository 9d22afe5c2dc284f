"""The terminal: a console on which the names of users are text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console(*, stderr: bool = False, width: int | None = None) -> "Console":
    """Return a console that prints text as it is: "[/bold]" is no markup, and ":smile:" no picture.

    Tables on it do the same with titles, headers and cells. Style text with `rich.text.Text` instead.
    """
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            """Let the program end as every program whose reader is gone; rich would end it with exit code 1."""
            raise BrokenPipeError

    return Ours(stderr=stderr, width=width, markup=False, emoji=False)
