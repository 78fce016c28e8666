"""A request with an invalid head is rejected before its body is read."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Message

from services.status.app import create_app as create_status
from services.status.settings import StatusSettings
from services.upload.app import create_app as create_upload
from services.upload.settings import UploadSettings
from shared.auth.accesserrors import UnauthenticatedError
from shared.http import problems
from shared.http.head_first import HeadFirstRoute


class Asked(BaseModel):
    word: str


async def token(authorization: Annotated[str, Header()] = "") -> None:
    if not authorization:
        raise UnauthenticatedError


def application() -> FastAPI:
    app = FastAPI()
    problems.install(app)
    app.router.route_class = HeadFirstRoute

    @app.post("/", dependencies=[Depends(token)])
    async def endpoint(asked: Asked, number: int) -> str:
        return asked.word * number

    return app


async def asked(query: str, **headers: str) -> tuple[int, bool]:
    """Return the status, and True if the body was read."""
    reads: list[None] = []
    sent: list[Message] = []

    async def receive() -> Message:
        reads.append(None)
        return {"type": "http.request", "body": b'{"word": "a"}'}

    async def send(message: Message) -> None:
        sent.append(message)

    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "headers": names,
        "query_string": query.encode(),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("a", 1),
        "client": ("b", 2),
    }
    await application()(scope, receive, send)
    return sent[0]["status"], bool(reads)


JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("query", "headers", "status", "is_read"),
    [
        ("number=2", JSON | {"authorization": "a"}, 200, True),
        ("number=2", JSON, 401, False),
        ("number=x", JSON | {"authorization": "a"}, 422, False),
        ("", JSON | {"authorization": "a"}, 422, False),
        ("number=2", {"authorization": "a"}, 415, False),
        ("number=2", {"authorization": "a", "content_type": "text/json"}, 415, False),
        ("number=2", {"authorization": "a", "content_type": "application/a+json"}, 200, True),
    ],
)
async def test_only_a_body_with_a_good_head_is_read(
    query: str, headers: dict[str, str], status: int, is_read: bool
) -> None:
    assert await asked(query, **headers) == (status, is_read)


def endpoints(routes: Sequence[Any]) -> Iterator[APIRoute]:
    """Yield all endpoints, including those of included routers."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from endpoints(included.routes)


@pytest.mark.parametrize("app", [create_status(StatusSettings()), create_upload(UploadSettings())])
def test_every_endpoint_that_has_a_body_asks_its_head_first(app: FastAPI) -> None:
    with_body = [route for route in endpoints(app.routes) if route.body_field is not None]

    assert with_body
    assert all(isinstance(route, HeadFirstRoute) for route in with_body), with_body
