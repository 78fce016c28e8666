"""Errors that the command line reports in one line."""


class StackError(Exception):
    """The local stack cannot start or continue. The message names the cause and the remedy."""


class NoAnswerError(Exception):
    """A service does not answer. The message names the service and the remedy."""


class RefusedError(Exception):
    """A service rejected a request. The message is the `detail` of its problem document."""

    def __init__(self, code: str, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after = retry_after
        """Seconds after which to retry the request; None if a retry would not help."""
