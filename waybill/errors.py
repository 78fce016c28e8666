"""Errors that the command line tells in one line."""


class StackError(Exception):
    """The local stack cannot start or go on; the message says why and what to do."""


class NoAnswerError(Exception):
    """A service does not answer; the message says which, and what to do."""


class RefusedError(Exception):
    """A service refused a request; the message is the detail of its problem document."""

    def __init__(self, code: str, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after = retry_after
        """Seconds after which the same request is worth another try; None where it is not."""
