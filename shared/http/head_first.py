"""Endpoints that read a body only for a request whose head is in order.

FastAPI reads and parses a body before it resolves an endpoint's dependencies, so anybody could have
a megabyte of JSON parsed before they are asked who they are. A `HeadFirstRoute` resolves them
first, without the body: authentication, scopes, origin, parameters and headers.
"""

import json
from collections.abc import Callable, Coroutine
from copy import copy
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.utils import solve_dependencies
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from shared.errors import BadParameterError
from shared.events.storable import unstorable_text
from shared.http.refusals import NotJsonError


class HeadFirstRoute(APIRoute):
    """A route that refuses by the head what can be refused by the head. With `Expect: 100-continue`
    the client is then never told to send its body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request; used by FastAPI."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        head = copy(self.dependant)
        head.body_params = []

        async def handle_head_first(request: Request) -> Response:
            solved = await solve_dependencies(
                request=request,
                dependant=head,
                async_exit_stack=request.scope["fastapi_inner_astack"],
                embed_body_fields=False,
            )
            if solved.errors:
                raise RequestValidationError(solved.errors)
            check_json(request.headers.get("content-type"))
            check_texts(await request.body())
            return await handle(request)

        return handle_head_first


def check_json(content_type: str | None) -> None:
    """Check that a body is declared to be JSON.

    Raises:
        NotJsonError: it is not.
    """
    message = Message()
    message["content-type"] = content_type or "text/plain"
    subtype = message.get_content_subtype()
    if message.get_content_maintype() != "application" or not (
        subtype == "json" or subtype.endswith("+json")
    ):
        raise NotJsonError(
            f"The Content-Type is {(content_type or 'missing')[:80]!r}; send JSON with "
            "`Content-Type: application/json`."
        )


def check_texts(body: bytes) -> None:
    """Check that the texts of a JSON body can be stored: that none has a NUL or a lone surrogate.

    What is no JSON at all is for the parser to refuse.

    Raises:
        BadParameterError: one of them does; the message names the member.
    """
    if body.isascii() and b"\\u" not in body and b"\x00" not in body:
        return
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    places: list[tuple[str, object]] = [("body", document)]
    while places:
        where, value = places.pop()
        if isinstance(value, str) and (fault := unstorable_text(value)):
            raise BadParameterError(f"{where}: the text {fault}; leave that out.")
        if isinstance(value, dict):
            if any(map(unstorable_text, value)):
                raise BadParameterError(f"{where}: a name has a NUL or a lone surrogate.")
            places += ((f"{where}.{name}", each) for name, each in value.items())
        elif isinstance(value, list):
            places += ((f"{where}.{number}", each) for number, each in enumerate(value))
