"""Answers that go on when the framework has done its part.

While a request is handled, some twenty frames of the framework stay in memory with all they hold:
20 kB. An answer that lasts for hours has no use for them. So its endpoint looks at what is asked,
leaves the rest of the work, and returns; the application goes on with that by itself.
"""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http.cors import Cors, CorsPolicy

_LEFT = "waybill.left"


def leave(scope: Scope, rest: ASGIApp) -> None:
    """Have `rest` answer once the endpoint has returned, which has sent nothing.

    Args:
        scope: of a request to a `LastingApp`.
    """
    scope[_LEFT].append(rest)


class LastingApp(FastAPI):
    """An application whose endpoints may leave work."""

    cors: CorsPolicy | None = None
    """Which pages of other origins may read the answers, what is left to be done among them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; as ASGI has it."""
        answer = self._answer if self.cors is None else Cors(self._answer, self.cors)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        left: list[ASGIApp] = []
        # A copy: what the framework puts into it goes when the framework has returned.
        await super().__call__({**scope, _LEFT: left}, receive, send)
        if left:
            scope["headers"], scope["state"] = [], {}  # Read by now, and 2 kB.
            await left.pop()(scope, receive, send)
