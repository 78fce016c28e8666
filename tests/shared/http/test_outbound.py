"""URLs from users cannot reach internal addresses, whatever their host resolves to."""

import asyncio
import socket
from typing import Any

import pytest
from fastapi import FastAPI, Response

from shared.errors import ForbiddenAddressError
from shared.http.outbound import Outbound, OutboundError
from tests.support.serving import served


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "fd00::1"])
async def test_a_name_that_means_a_machine_inside_is_refused_when_it_is_resolved(
    monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    async def resolve(*_: Any, **__: Any) -> list[Any]:
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))
        return [public, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (inside, 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
    outbound = Outbound(private=False, seconds=2)
    with pytest.raises(ForbiddenAddressError, match=r"hooks\.example is not on the public"):
        await outbound.post("https://hooks.example/", b"", {})
    await outbound.close()


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    app, asked = FastAPI(), []

    @app.post("/moved")
    async def moved() -> Response:
        return Response(status_code=307, headers={"Location": "/inside"})

    @app.post("/inside")
    async def inside() -> None:
        asked.append("inside")

    outbound = Outbound(private=True, seconds=2)
    async with served(app, past_asgi=False) as client:
        assert await outbound.post(f"{client.base_url}/moved", b"", {}) == 307
    assert asked == []
    await outbound.close()


async def test_silence_is_an_error_that_says_so() -> None:
    async def keep_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outbound = Outbound(private=True, seconds=0.2)
    with pytest.raises(OutboundError, match=r"did not respond within 0\.2 s"):
        await outbound.post(f"http://127.0.0.1:{port}/", b"", {})
    await outbound.close()
    server.close()


async def test_an_ipv6_address_is_asked_by_its_name() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    outbound = Outbound(private=True, seconds=2)
    assert await outbound.post(f"http://[::1]:{port}/", b"", {}) == 204
    await outbound.close()
    server.close()
    assert f"\r\nHost: [::1]:{port}\r\n".encode() in heads[0]
