"""What may go wrong with the work on a file: carried by events, never over HTTP.

WorkError
├── PermanentError           trying again cannot help
└── TransientError           trying again may help
"""

from typing import ClassVar

from shared.errors import WaybillError


class WorkError(WaybillError):
    """The work on a file went wrong."""

    retryable: ClassVar[bool] = False

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.error_code = code


class PermanentError(WorkError):
    """The work on a file went wrong and trying again cannot help."""


class TransientError(WorkError):
    """The work on a file went wrong and trying again may help."""

    retryable = True
