"""Cross-origin resource sharing (Fetch, 3.2): which pages of other origins may use a service.

Either any page may, without credentials, or named ones may, with the cookie of our page if the
service asks who one is. Never are credentials allowed to any page.
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
"""Headers that a page may read, beside those that it always may."""

STATE = "cors"
"""Name under which the lifespan of an application yields its policy, for the refusals of the HTTP
parser: no middleware sees them."""

MAX_AGE = 600
"""Seconds for which a browser remembers the answer to a preflight."""

_HEADER_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{0,2000}")


def read_origins(listed: object) -> object:
    """Return the origins of a setting, each in the form that browsers send.

    Raises:
        ValueError: one of them is none.
    """
    if isinstance(listed, str):
        listed = tuple(part.strip() for part in listed.split(",") if part.strip())
    if not isinstance(listed, tuple | list | set | frozenset):
        return listed
    for text in listed:
        if text != ANY and not origin_of(str(text)):
            raise ValueError(f"{text!r} is no origin; write https://page.example.")
    return tuple(ANY if text == ANY else origin_of(str(text)) for text in listed)


@dataclass(frozen=True, kw_only=True)
class CorsPolicy:
    """Which pages may use a service."""

    origins: frozenset[str]
    """As browsers send them; `ANY` for all pages."""
    credentials: bool
    """Whether the browser may send the cookie along."""
    exposed: tuple[str, ...] = EXPOSED

    def __post_init__(self) -> None:
        if self.credentials and ANY in self.origins:
            raise ValueError("Credentials are for named origins only.")

    def allowed(self, origin: str) -> str | None:
        """Return what `Access-Control-Allow-Origin` says to a page; None if it may do nothing."""
        if ANY in self.origins:
            return ANY
        return origin if origin_of(origin) in self.origins else None

    def allow(self, allowed: str) -> dict[str, str]:
        """Return the headers that allow a page to read an answer; see `allowed`."""
        headers = {"Access-Control-Allow-Origin": allowed}
        if self.credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def mark(self, headers: MutableHeaders, origin: str | None) -> None:
        """Say in the headers of an answer whether the page that asked may read it.

        Args:
            origin: of the page, as its browser sent it; None if the request names none.
        """
        if ANY not in self.origins:  # A cache must not give one page what another was answered.
            headers.add_vary_header("Origin")
        allowed = None if origin is None else self.allowed(origin)
        if allowed is not None:
            headers.update(self.allow(allowed))
            headers["Access-Control-Expose-Headers"] = ", ".join(self.exposed)


class Cors:
    """Middleware that answers preflights, and tells browsers who may read an answer."""

    def __init__(self, app: ASGIApp, policy: CorsPolicy) -> None:
        self.app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; as ASGI has it."""
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
        await self.app(scope, receive, self._telling(send, origin))

    def _telling(self, send: Send, origin: str | None) -> Send:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._policy.mark(MutableHeaders(scope=message), origin)
            await send(message)

        return tell

    def _preflight(self, headers: Headers, origin: str, path: str) -> Response:
        allowed = self._policy.allowed(origin)
        if allowed is None:
            refusal = ForeignOriginError(f"{origin[:200]} is not among WAYBILL_CORS_ORIGINS.")
            response: Response = problem_response(refusal, instance=path)
        else:
            response = Response(headers=self._policy.allow(allowed))
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Max-Age"] = str(MAX_AGE)
            asked = headers.get("access-control-request-headers", "")
            if asked and _HEADER_NAMES.fullmatch(asked):
                response.headers["Access-Control-Allow-Headers"] = asked
        vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        response.headers["Vary"] = vary
        return response
