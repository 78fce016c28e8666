"""The answer to what is no request that an application can have."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from shared.errors import RefusedError
from shared.http.cors import CorsPolicy
from shared.http.problems import problem_response


def refusal_answer(
    error: RefusedError, *, path: bytes, origin: str | None, cors: CorsPolicy | None
) -> bytes:
    """Return a problem document as an answer after which the connection closes.

    Args:
        path: of the request, if its target could be read.
        origin: of the page that asked, if the head names one.
        cors: which pages may read the answer; None for those of the service alone.
    """
    response = problem_response(error, instance=path.decode("ascii", errors="replace"))
    if cors is not None:
        cors.mark(response.headers, origin)
    lines = [STATUS_LINE[error.status]]
    lines += [b"%b: %b\r\n" % header for header in response.raw_headers]
    return b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)])
