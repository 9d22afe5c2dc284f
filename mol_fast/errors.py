"""The one exception that the command line turns into a sentence instead of a traceback."""


class UserError(Exception):
    """Something the user gave cannot be used.

    The message is one sentence: what is wrong, where, and what to do. Programs print it and exit with
    code 2; library callers catch it like any exception.
    """
