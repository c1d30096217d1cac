"""The one exception a user sees: what was found, where, and how to mend it."""


class InputError(ValueError):
    """Input that crcore cannot use.

    The message is one line that names the file or key, says what was found
    and what to do. The command line prints it and exits with status 2.
    """


class FrameRejectedError(InputError):
    """An exposure that cannot be labelled; ``index`` is its place in the sequence."""

    def __init__(self, index, message):
        super().__init__(message)
        self.index = index
