"""The response to a request that the HTTP parser rejects."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from shared.errors import RefusedError
from shared.http.cors import CorsPolicy
from shared.http.problems import problem_response


def refusal_answer(
    error: RefusedError, *, path: bytes, origin: str | None, cors: CorsPolicy | None
) -> bytes:
    """Return a raw response with a problem document and `Connection: close`.

    Args:
        path: path of the request, or empty if the target could not be parsed.
        origin: the request's `Origin`, if it has one.
        cors: policy that allows other origins to read the response; None for the own origin only.
    """
    response = problem_response(error, instance=path.decode("ascii", errors="replace"))
    if cors is not None:
        cors.mark(response.headers, origin)
    lines = [STATUS_LINE[error.status]]
    lines += [b"%b: %b\r\n" % header for header in response.raw_headers]
    return b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)])
