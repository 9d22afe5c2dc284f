"""The exceptions that the command line turns into a sentence instead of a traceback."""


class UserError(Exception):
    """Something the user gave cannot be used.

    The message is one sentence: what is wrong, where, and what to do. Programs print it and exit with
    `exit_code`; library callers catch it like any exception.
    """

    exit_code = 2


class FoldsFailed(UserError):
    """Some folds of a run failed, the others are finished; the message lists those that failed."""

    exit_code = 1


class Stopped(UserError):
    """A signal asked a run to stop, and it left all that is needed to go on."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number
