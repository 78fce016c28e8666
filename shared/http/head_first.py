"""Routes that read the body only after the head of the request was accepted.

FastAPI reads and parses a body before it resolves an endpoint's dependencies, so unauthenticated
clients could make it parse a megabyte of JSON. A `HeadFirstRoute` first resolves the dependencies
without the body: authentication, scopes, origin, parameters and headers.
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
    """A route that rejects invalid heads before it reads the body. A client that sends
    `Expect: 100-continue` then never sends the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the request handler; called by FastAPI."""
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
    """Check that the content type of a body is JSON.

    Raises:
        NotJsonError: the content type is missing or is not JSON.
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
    """Check that the texts of a JSON body can be stored.

    Bodies that are not JSON are left to the parser to reject.

    Raises:
        BadParameterError: a text has a NUL or a lone surrogate; the message names the member.
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
            raise BadParameterError(f"{where}: the text {fault}; remove it.")
        if isinstance(value, dict):
            if any(map(unstorable_text, value)):
                raise BadParameterError(f"{where}: a name has a NUL or a lone surrogate.")
            places += ((f"{where}.{name}", each) for name, each in value.items())
        elif isinstance(value, list):
            places += ((f"{where}.{number}", each) for number, each in enumerate(value))
