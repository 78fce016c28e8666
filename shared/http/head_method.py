"""HEAD wherever GET works (RFC 9110, 9.3.2): the same head, without the content.

The framework's routes answer the methods that they name, and GET does not name HEAD. What a route
answers to HEAD by itself stays; all else is asked as a GET whose content is dropped. An endpoint
whose GET waits, streams or uses something up asks `is_head` and leaves that out.
"""

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IS_HEAD = "waybill.head"

METHOD_NOT_ALLOWED = 405


def is_head(scope: Mapping[str, Any]) -> bool:
    """Return whether only the head of an answer is asked for."""
    return scope.get("method") == "HEAD" or _IS_HEAD in scope


class HeadAsGet:
    """Middleware that answers HEAD by GET where the application has no answer of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; as ASGI has it."""
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
