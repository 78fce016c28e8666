"""Cross-origin resource sharing (Fetch, 3.2): access for pages of other origins.

A service allows either all origins without credentials, or a list of origins. Listed origins may
send the session cookie if the service requires authentication. All origins with credentials is
never allowed.
"""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.auth.accesserrors import ForeignOriginError
from shared.auth.origins import origin_of
from shared.http.problems import problem_response

ANY = "*"

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"

EXPOSED = (
    *("Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag"),
    *("Idempotent-Replayed", "Last-Modified", "Link", "Location", "Retry-After"),
    "WWW-Authenticate",
)
"""Response headers that a page may read in addition to the safelisted ones."""

STATE = "cors"
"""Key of the policy in the state that an application's lifespan yields. The HTTP parser needs it
for its error responses, which no middleware sees."""

MAX_AGE = 600
"""Seconds for which a browser caches a preflight response."""

_HEADER_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{0,2000}")


def read_origins(listed: object) -> object:
    """Return the origins of a setting, each in the form that browsers send.

    Raises:
        ValueError: an entry is not an origin.
    """
    if isinstance(listed, str):
        listed = tuple(part.strip() for part in listed.split(",") if part.strip())
    if not isinstance(listed, tuple | list | set | frozenset):
        return listed
    for text in listed:
        if text != ANY and not origin_of(str(text)):
            raise ValueError(f"{text!r} is not an origin; write https://page.example.")
    return tuple(ANY if text == ANY else origin_of(str(text)) for text in listed)


@dataclass(frozen=True, kw_only=True)
class CorsPolicy:
    """The origins whose pages may use a service."""

    origins: frozenset[str]
    """Allowed origins as browsers send them; `ANY` for all."""
    credentials: bool
    """True if browsers may send the session cookie."""
    exposed: tuple[str, ...] = EXPOSED

    def __post_init__(self) -> None:
        if self.credentials and ANY in self.origins:
            raise ValueError("Credentials require a list of origins, not all origins.")

    def allowed(self, origin: str) -> str | None:
        """Return `Access-Control-Allow-Origin` for a page; None if its origin is not allowed."""
        if ANY in self.origins:
            return ANY
        return origin if origin_of(origin) in self.origins else None

    def allow(self, allowed: str) -> dict[str, str]:
        """Return the headers that let a page read a response, given the result of `allowed`."""
        headers = {"Access-Control-Allow-Origin": allowed}
        if self.credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def mark(self, headers: MutableHeaders, origin: str | None) -> None:
        """Add the CORS headers to a response.

        Args:
            headers: headers of the response.
            origin: origin of the page as its browser sent it; None if the request has none.
        """
        if ANY not in self.origins:  # A cache must not serve one page the response for another.
            headers.add_vary_header("Origin")
        allowed = None if origin is None else self.allowed(origin)
        if allowed is not None:
            headers.update(self.allow(allowed))
            headers["Access-Control-Expose-Headers"] = ", ".join(self.exposed)


class Cors:
    """Middleware that answers preflight requests and adds the CORS headers to responses."""

    def __init__(self, app: ASGIApp, policy: CorsPolicy) -> None:
        self.app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if origin is not None and is_preflight:
            response = self._preflight(headers, origin, scope["path"])
            await response(scope, receive, send)
            return
        await self.app(scope, receive, self._marking(send, origin))

    def _marking(self, send: Send, origin: str | None) -> Send:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._policy.mark(MutableHeaders(scope=message), origin)
            await send(message)

        return send_marked

    def _preflight(self, headers: Headers, origin: str, path: str) -> Response:
        allowed = self._policy.allowed(origin)
        if allowed is None:
            refusal = ForeignOriginError(f"{origin[:200]} is not listed in WAYBILL_CORS_ORIGINS.")
            response: Response = problem_response(refusal, instance=path)
        else:
            response = Response(headers=self._policy.allow(allowed))
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Max-Age"] = str(MAX_AGE)
            requested = headers.get("access-control-request-headers", "")
            if requested and _HEADER_NAMES.fullmatch(requested):
                response.headers["Access-Control-Allow-Headers"] = requested
        vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        response.headers["Vary"] = vary
        return response
