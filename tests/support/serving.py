"""Serve an application on a free loopback port, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.status.live.streaming_protocols import HttpProtocol, WebSocketProtocol
from shared.http.limits import MAX_MESSAGE


@asynccontextmanager
async def served(
    app: FastAPI, *, past_asgi: bool = True, http: type[HttpToolsProtocol] = HttpProtocol
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve `app` and yield a client, over a real socket.

    Args:
        past_asgi: let the application write to connections directly, as in `services.status`.
        http: the HTTP protocol class to use then.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        http=http if past_asgi else "httptools",
        ws=WebSocketProtocol if past_asgi else "websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_MESSAGE,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    # asyncio disables Nagle's algorithm only with an explicit protocol; uvloop always does.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            try:
                yield client
            finally:
                server.should_exit = True
                await serving


@asynccontextmanager
async def listening(config: uvicorn.Config) -> AsyncIterator[int]:
    """Serve a configuration and yield the port."""
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def until_ready(client: httpx.AsyncClient, *, seconds: float = 30.0) -> None:
    """Wait until the service is ready."""
    async with asyncio.timeout(seconds):
        while (await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.1)
