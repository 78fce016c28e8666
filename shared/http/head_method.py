"""HEAD for every GET endpoint (RFC 9110, 9.3.2): the same head, without the content.

The framework does not route HEAD to GET endpoints. A route's own response to HEAD is kept. Other
HEAD requests are handled as GET, and the content is dropped. An endpoint whose GET waits, streams
or consumes something checks `is_head` and skips that.
"""

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IS_HEAD = "waybill.head"

METHOD_NOT_ALLOWED = 405


def is_head(scope: Mapping[str, Any]) -> bool:
    """Return True if the client requested only the head of the response."""
    return scope.get("method") == "HEAD" or _IS_HEAD in scope


class HeadAsGet:
    """Middleware that handles HEAD as GET where the application has no route for HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        refused = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] == METHOD_NOT_ALLOWED
            if not refused:
                await send(message)

        await self.app(scope, receive, send_unless_refused)
        if refused:
            as_get = {**scope, "method": "GET", _IS_HEAD: True}
            await self.app(as_get, receive, _without_content(send))


def _without_content(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
