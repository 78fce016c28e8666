"""Letting a client read a refusal that comes while it is still sending.

A server that answers and closes at once, with bytes of the request unread, makes the kernel reset
the connection, and the client may lose the answer with it. So the answer goes out first, marked
`Connection: close`, and what still comes is read and thrown away for a while (nginx calls this a
lingering close). A client that reads while it sends stops by itself.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_BYTES = 64 << 20
"""Bytes thrown away at most: what a simple client sends before it looks for an answer is lost
work for both sides, and this much passes in a second or two."""

LINGER_SECONDS = 10.0
"""Time for it at most."""


class LingeringClose:
    """ASGI middleware; touches only answers that overtake their request's body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope):
            exchange = _Exchange(receive, send)
            await self._app(scope, exchange.receive, exchange.send)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_read = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        if self._body_read:
            await self._send(message)
        elif message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"connection", b"close")]
            await self._send({**message, "headers": headers})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._throw_away()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _throw_away(self) -> None:
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._body_read and left > 0:
                    message = await self.receive()
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return


def _has_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False
