"""Errors that reject a request before it reaches the application.

RefusedError
├── MalformedRequestError           400
├── UnsupportedVersionError         400
├── HeadTooLargeError               431
├── BodyTooLargeError               413
├── NotJsonError                    415
└── RequestTimeoutError             408

All except `NotJsonError` close the connection, because the start of the next request is unknown.
"""

from shared.errors import RefusedError
from shared.http import limits


class MalformedRequestError(RefusedError):
    """The request violates HTTP/1.1 or is ambiguous."""

    code = "malformed_request"


class UnsupportedVersionError(RefusedError):
    """This service supports HTTP/1.1 and HTTP/1.0 only."""

    code = "unsupported_http_version"


class HeadTooLargeError(RefusedError):
    """The head of the request is larger than this service accepts."""

    code = "head_too_large"
    status = 431


class BodyTooLargeError(RefusedError):
    """The body of the request is larger than this endpoint accepts."""

    code = "body_too_large"
    status = 413


class NotJsonError(RefusedError):
    """This endpoint requires a JSON body."""

    code = "not_json"
    status = 415


class RequestTimeoutError(RefusedError):
    """The request was not complete in time."""

    code = "request_timeout"
    status = 408


def too_large(size: int) -> BodyTooLargeError:
    """Return the error for a body of at least `size` bytes."""
    return BodyTooLargeError(
        f"The body has {size} bytes or more; the limit of this endpoint is {limits.MAX_BODY}."
    )


def too_late(part: str, seconds: float) -> RequestTimeoutError:
    """Return the error for a part of a request that was not complete within its time limit."""
    return RequestTimeoutError(f"The {part} was not complete after {seconds:g} seconds.")
