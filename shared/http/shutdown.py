"""Requests that are still open when the shutdown grace is over.

uvicorn cancels them and would answer a plain 500. A client that reads 503 with `Retry-After` sends
the request again and reaches another pod.
"""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import UnavailableError
from shared.http.cors import STATE, CorsPolicy
from shared.http.problems import problem_response


class ShuttingDownError(UnavailableError):
    """The pod shuts down and did not finish the request. Send it again."""

    code = "shutting_down"
    retry_after = 1


class ShutdownAnswers:
    """Answers cancelled requests with 503, unless their response has started."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            request = Request(scope)
            response = problem_response(ShuttingDownError(), instance=request.url.path)
            response.headers["Connection"] = "close"
            cors: CorsPolicy | None = scope.get("state", {}).get(STATE)
            if cors is not None:
                cors.mark(response.headers, request.headers.get("origin"))
            try:
                await response(scope, receive, send)
            except RuntimeError:  # The response has started: the client sees it break off.
                raise asyncio.CancelledError from None
