"""Responses that continue after the framework has returned.

While FastAPI handles a request, about twenty stack frames stay in memory with everything they
reference: 20 kB. A stream that lasts for hours does not need them. Its endpoint therefore only
validates the request, registers the rest of the response, and returns. The application then
continues with that on its own.
"""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http.cors import Cors, CorsPolicy

_DEFERRED = "waybill.deferred"


def defer(scope: Scope, rest: ASGIApp) -> None:
    """Register the rest of a response, to run once the endpoint has returned.

    The endpoint itself must not send anything.

    Args:
        scope: of a request to a `DeferringApp`.
    """
    scope[_DEFERRED].append(rest)


class DeferringApp(FastAPI):
    """An application whose endpoints may register the rest of a response."""

    cors: CorsPolicy | None = None
    """The CORS policy for all responses, including deferred ones."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        answer = self._answer if self.cors is None else Cors(self._answer, self.cors)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        deferred: list[ASGIApp] = []
        # The framework adds to a copy of the scope, which is freed when the framework has returned.
        await super().__call__({**scope, _DEFERRED: deferred}, receive, send)
        if deferred:
            scope["headers"], scope["state"] = [], {}  # No longer needed; 2 kB.
            await deferred.pop()(scope, receive, send)
