"""Errors of the user, which programs print as one sentence instead of a traceback."""


class UserError(Exception):
    """An input from the user cannot be used.

    The message is one sentence: what is wrong, where, and what to do. It starts in lower case and has no full stop.
    Programs print it and exit with `exit_code`; library callers catch it like any exception.
    """

    exit_code = 2


class Unfinished(UserError):
    """A run has folds without results: they failed, or another process trains them. The message lists them."""


class FoldsFailed(Unfinished):
    """Some of several folds or models have no results, the others are finished. The message lists those that lack."""

    exit_code = 1


class InputsFailed(UserError):
    """Some of several inputs failed and the others are done. The message lists those that failed."""

    exit_code = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Programs raise it, to end like after SIGINT: with a sentence, and nothing half-written."""


class Stopped(UserError):
    """A signal stopped a run, which can be resumed from its checkpoint. `number` is the signal's."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number
