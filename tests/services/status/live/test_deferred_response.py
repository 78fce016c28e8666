"""Long-lived responses continue without the framework."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from services.status.api.deferred_response import DeferringApp, defer
from tests.support.serving import served


async def test_the_rest_of_an_answer_is_given_when_the_framework_has_returned() -> None:
    happened: list[str] = []

    async def resource() -> AsyncIterator[None]:
        yield
        happened.append("the framework has returned")

    async def rest(scope: Scope, receive: Receive, send: Send) -> None:
        happened.append("the rest begins")
        assert "endpoint" not in scope
        assert scope["headers"] == []
        await PlainTextResponse("the rest")(scope, receive, send)

    class Left(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
            defer(scope, rest)

    app = DeferringApp()

    @app.get("/", response_class=Left)
    async def endpoint(request: Request, _: Annotated[None, Depends(resource)]) -> Left:
        assert "endpoint" in request.scope
        return Left()

    async with served(app) as client:
        answer = await client.get("/")
    assert answer.text == "the rest"
    assert happened == ["the framework has returned", "the rest begins"]
