"""Errors that occur while a file is processed. Events carry them; HTTP responses never do.

WorkError
├── PermanentError           fails immediately
└── TransientError           is retried
"""

from typing import ClassVar

from shared.errors import WaybillError


class WorkError(WaybillError):
    """Processing the file failed."""

    retryable: ClassVar[bool] = False

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.error_code = code


class PermanentError(WorkError):
    """Processing the file failed, and a retry cannot succeed."""


class TransientError(WorkError):
    """Processing the file failed, and a retry may succeed."""

    retryable = True
