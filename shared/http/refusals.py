"""Why a connection is refused before an application has seen its request.

RefusedError
├── MalformedRequestError           400
├── UnsupportedVersionError         400
├── HeadTooLargeError               431
├── BodyTooLargeError               413
├── NotJsonError                    415
└── RequestTimeoutError             408

Except for `NotJsonError`, the connection is then closed: where the next request begins is not
known.
"""

from shared.errors import RefusedError
from shared.http import limits


class MalformedRequestError(RefusedError):
    """The request does not follow HTTP/1.1, or can be read in two ways."""

    code = "malformed_request"


class UnsupportedVersionError(RefusedError):
    """This service speaks HTTP/1.1 and HTTP/1.0."""

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
    """This endpoint reads JSON."""

    code = "not_json"
    status = 415


class RequestTimeoutError(RefusedError):
    """The request was not complete in time."""

    code = "request_timeout"
    status = 408


def too_large(size: int) -> BodyTooLargeError:
    """Return the refusal of a body with so many bytes or more."""
    return BodyTooLargeError(
        f"The body has {size} bytes or more; this endpoint accepts {limits.MAX_BODY}."
    )


def too_late(part: str, seconds: float) -> RequestTimeoutError:
    """Return the refusal of a part of a request that took longer than so many seconds."""
    return RequestTimeoutError(f"The {part} was not complete after {seconds:g} seconds.")
