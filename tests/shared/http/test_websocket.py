"""WebSocket connections: endless messages close them with a code, and no data accumulates."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from shared.http import limits
from shared.http.protocol import BoundedHttpProtocol
from shared.http.websocket import BoundedWebSocketProtocol
from tests.support.serving import listening

MASK = b"\x00\x00\x00\x00"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LARGE = b"\x01\xfe\xff\xff" + MASK + b"x" * 65535
TEXT, CONTINUATION, PING = 0x81, 0x00, 0x89


class Protocol(BoundedHttpProtocol):
    websocket_paths = frozenset({b"/ws"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    assert scope["path"] == "/ws"
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        echo,
        log_config=None,
        http=Protocol,
        ws=BoundedWebSocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=limits.MAX_MESSAGE,
        lifespan="off",
    )
    async with listening(config) as port:
        yield port


def frame(kind: int, payload: bytes = b"") -> bytes:
    assert len(payload) < 126
    return bytes((kind, 0x80 | len(payload))) + MASK + payload


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def close_code(port: int, *sent: bytes) -> int:
    """Send raw bytes; return the server's close code."""
    reader, writer = await opened(port)
    answer = b""
    async with asyncio.timeout(20):
        try:
            for piece in sent:
                writer.write(piece)
                await writer.drain()
            while piece := await reader.read(65536):
                answer += piece
        except ConnectionError:
            pass
    writer.transport.abort()
    at = answer.rindex(b"\x88")
    return int.from_bytes(answer[at + 2 : at + 4], "big")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(0x01) + frame(CONTINUATION) * 10_000, 1008),
        (frame(PING) * 10_000, 1008),
        (frame(0x8A) * 10_000, 1008),
        (frame(TEXT, b"{}") * 10_000, 1008),
        (b"\x81\xff" + b"\x00" * 4 + b"\x10\x00\x00\x00" + MASK, 1009),
        (LARGE + LARGE.replace(b"\x01", b"\x00", 1) * 3, 1009),
        (b"\xc1\x81" + MASK + b"a", 1002),
        (b"\x81\x01a", 1002),
        (b"\x83\x80" + MASK, 1002),
    ],
    ids=[
        *("continuations", "pings", "pongs", "messages", "a huge frame", "a huge message"),
        *("compressed", "not masked", "unknown"),
    ],
)
async def test_what_has_no_end_or_is_none_is_closed(port: int, sent: bytes, code: int) -> None:
    assert await close_code(port, sent) == code


@pytest.mark.parametrize("begun", [b"\x81", b"\x81\x85" + MASK + b"ab", frame(0x01, b"ab")])
async def test_a_message_that_does_not_end_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(limits, "MESSAGE_SECONDS", 0.2)

    assert await close_code(port, begun) == 1008


async def test_a_quiet_client_stays(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MESSAGE_SECONDS", 0.1)
    reader, writer = await opened(port)
    writer.write(frame(0x01, b"a") + frame(0x80, b"b"))
    await asyncio.sleep(0.3)
    writer.write(frame(PING, b"x"))

    assert (await reader.readexactly(3))[2:] == b"x"
    writer.transport.abort()


async def test_pings_of_a_client_that_does_not_read_do_not_pile_up(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FRAMES_AT_ONCE", 10**9)
    monkeypatch.setattr(BoundedWebSocketProtocol, "_allowance", 1e9)
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.3)
    _, writer = await opened(port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):  # noqa: PT012
        async with asyncio.timeout(30):
            while True:
                writer.write(frame(PING, b"x" * 100) * 1000)
                await writer.drain()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"/ws", b"http://a/ws?ticket=x"), 101),
        ((b"/ws", b"/w%73"), 101),
        ((b"/ws", b"/other"), 404),
        ((b"GET", b"POST"), 404),
        ((b"Version: 13", b"Version: 8"), 400),
        ((b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: x"), 400),
        ((b"Host: a", b"Host: a\r\nContent-Length: 5"), 400),
        ((b"Host: a", b"Host: a\r\nX: " + b"x" * 9000), 431),
    ],
)
async def test_every_handshake_is_answered(
    port: int, change: tuple[bytes, bytes], status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE.replace(*change))
    async with asyncio.timeout(20):
        assert int((await reader.readuntil(b"\r\n\r\n")).split()[1]) == status
    writer.transport.abort()


@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, b"\xff\xfe"),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(0x01, b"\xc3") + frame(0x80, b"a"),
        frame(0x88, b"\x03\xe8\xff"),
    ],
    ids=["no UTF-8", "a surrogate", "in two frames", "the reason of a close"],
)
async def test_a_text_that_is_not_utf_8_closes_without_a_traceback(
    port: int, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    assert await close_code(port, sent) == 1007
    assert [each for each in caplog.records if each.exc_info or each.levelname == "ERROR"] == []


async def test_a_character_may_be_split_between_frames(port: int) -> None:
    text = "ü".encode()
    sent = frame(0x01, text[:1]) + frame(0x80, text[1:]) + frame(0x88, b"\x03\xe8")
    assert await close_code(port, sent) == 1000
