"""Requests that the end of a process cuts off are answered, or seen to be cut off."""

import asyncio
from contextlib import suppress

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from shared.http.protocol import BoundedHttpProtocol
from shared.http.serving import listen
from shared.http.shutdown import ShutdownAnswers


async def cut_off(path: str) -> httpx.Response:
    """Ask an application that never ends, and end its server meanwhile."""
    is_asked = asyncio.Event()

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
        is_asked.set()
        await asyncio.Event().wait()

    config = uvicorn.Config(
        ShutdownAnswers(app),
        http=BoundedHttpProtocol,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        serving = asyncio.create_task(server._serve(sockets=[listener]))
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                asking = asyncio.create_task(client.get(path))
                async with asyncio.timeout(30):
                    await is_asked.wait()
                    server.should_exit = True
                    return await asking
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await serving


async def test_an_unanswered_request_is_answered_503() -> None:
    answer = await cut_off("/waiting")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "shutting_down"


async def test_an_answer_that_has_begun_is_cut_off() -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await cut_off("/begun")
