"""HTTP connections on a real socket: limits, and no ambiguous requests."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from shared.http import limits
from shared.http.head import origin_form, path_of
from shared.http.protocol import BoundedHttpProtocol
from tests.fuzz.understanding import Recorder, Understood, answered, recorded

SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Connection:
    """The client side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of the next response."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def refusal(self) -> tuple[int, str]:
        """Return the status and the code of the last response before the server closes."""
        status, body = await self.answer()
        await self.until_closed()
        return status, json.loads(body)["code"]

    async def until_closed(self) -> None:
        async with asyncio.timeout(20):
            while await self.reader.read(65536):
                pass


@pytest.fixture
async def server() -> AsyncIterator[tuple[Recorder, int]]:
    async with recorded(BoundedHttpProtocol) as running:
        yield running


@pytest.fixture
def recorder(server: tuple[Recorder, int]) -> Recorder:
    return server[0]


@pytest.fixture
async def connection(server: tuple[Recorder, int]) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server[1])
    yield Connection(reader, writer)
    writer.transport.abort()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(limits, name, 0.3)


def requests(recorder: Recorder) -> list[Understood]:
    return [each for found in recorder.by_number.values() for each in found]


class TestUpgrades:
    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"foo", b"TLS/1.0, h2c"])
    @pytest.mark.parametrize("pieces", [1, 3])
    async def test_one_that_is_not_supported_is_ignored_and_its_body_is_a_body(
        self, connection: Connection, recorder: Recorder, protocol: bytes, pieces: int
    ) -> None:
        body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        head = (
            b"POST /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: %d\r\n\r\n"
        ) % (protocol, len(body))
        raw = head + body + SECOND
        size = -(-len(raw) // pieces)
        for start in range(0, len(raw), size):
            await connection.send(raw[start : start + size])
            await asyncio.sleep(0.02)

        assert [(await connection.answer())[0] for _ in range(2)] == [200, 200]
        assert requests(recorder) == [
            Understood("POST", "first", body),
            Understood("GET", "second", b""),
        ]

    async def test_a_body_in_chunks_is_one_too(
        self, connection: Connection, recorder: Recorder
    ) -> None:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        await connection.send(head + b"5\r\nhello\r\n0\r\n\r\n" + SECOND)

        assert [(await connection.answer())[0] for _ in range(2)] == [200, 200]
        assert [request.body for request in requests(recorder)] == [b"hello", b""]


class TestEndless:
    """Endless requests are rejected early, in all their forms."""

    @pytest.mark.parametrize(
        ("begin", "more", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-Y: z\r\n", 431),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x" * 1000, 431),
            (b"GET /", b"x" * 1000, 431),
            (b"G", b"x" * 1000, 431),
            (b"", b"\r\n" * 100, 400),
            (CHUNKED, b"0" * 1000, 400),
            (CHUNKED + b"5;", b"x" * 1000, 400),
            (CHUNKED, b"1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n" * 100, 400),
            (CHUNKED + b"0\r\n", b"X-Y: z\r\n" * 100, 400),
            (CHUNKED + b"0\r\nX: ", b"x" * 1000, 400),
            (CHUNKED, b"3e8\r\n" + b"x" * 1000 + b"\r\n", 413),
        ],
        ids=[
            "headers",
            "header line",
            "target",
            "method",
            "empty lines",
            "digits of a size",
            "extension",
            "extensions",
            "trailers",
            "trailer line",
            "chunks",
        ],
    )
    async def test_parts_of_a_request(
        self, connection: Connection, recorder: Recorder, begin: bytes, more: bytes, status: int
    ) -> None:
        await connection.send(begin)
        sent = 0
        try:
            while sent < 8 * limits.MAX_BODY and not connection.reader._buffer:  # type: ignore[attr-defined]
                await connection.send(more * (20_000 // len(more)))
                sent += 20_000
                await asyncio.sleep(0)
        except ConnectionError:
            pass

        assert (await connection.answer())[0] == status
        assert sent < 4 * limits.MAX_BODY
        assert requests(recorder) == []

    @pytest.mark.usefixtures("short")
    @pytest.mark.parametrize("begin", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
    async def test_a_head_in_time(self, server: tuple[Recorder, int], begin: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server[1])
        connection = Connection(reader, writer)
        await connection.send(begin)

        assert await connection.refusal() == (408, "request_timeout")
        writer.close()

    @pytest.mark.usefixtures("short")
    @pytest.mark.parametrize(
        "begin",
        [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", CHUNKED, CHUNKED + b"0\r\n"],
    )
    async def test_a_body_in_time(
        self, connection: Connection, recorder: Recorder, begin: bytes
    ) -> None:
        await connection.send(begin)

        assert await connection.refusal() == (408, "request_timeout")
        assert requests(recorder) == []

    async def test_a_head_that_comes_byte_by_byte_is_read(
        self, connection: Connection, recorder: Recorder
    ) -> None:
        for byte in b"\r\n" + SECOND:
            await connection.send(bytes((byte,)))
            await asyncio.sleep(0)

        assert (await connection.answer())[0] == 200
        assert requests(recorder) == [Understood("GET", "second", b"")]

    async def test_too_many_headers(self, connection: Connection) -> None:
        headers = b"".join(b"X-%d: y\r\n" % number for number in range(limits.MAX_HEADERS))
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")

        assert await connection.refusal() == (431, "head_too_large")


class TestRefusals:
    async def test_a_body_that_is_announced_too_large_is_not_asked_for(
        self, connection: Connection, recorder: Recorder
    ) -> None:
        await connection.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )

        assert await connection.refusal() == (413, "body_too_large")
        assert requests(recorder) == []

    async def test_they_are_counted_by_their_code(self, connection: Connection) -> None:
        def count() -> float:
            labels = {"code": "malformed_request"}
            return REGISTRY.get_sample_value("waybill_http_refused_total", labels) or 0

        before = count()
        await connection.send(b"nonsense\r\n\r\n")

        assert await connection.refusal() == (400, "malformed_request")
        assert count() == before + 1

    async def test_what_follows_is_no_request(
        self, connection: Connection, recorder: Recorder
    ) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + SECOND * 100)

        assert await connection.refusal() == (400, "malformed_request")
        assert requests(recorder) == []


async def test_trailers_do_not_become_headers(connection: Connection, recorder: Recorder) -> None:
    await connection.send(CHUNKED + b"5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n" + SECOND)

    assert (await connection.answer())[0] == 200
    assert (await connection.answer())[0] == 200
    assert requests(recorder)[0].body == b"hello"


async def test_requests_sent_ahead_are_answered_once_each_and_in_order(
    connection: Connection, recorder: Recorder
) -> None:
    sent = [b"/r%d" % number for number in range(500)]
    body = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    await connection.send(b"".join(body % path for path in sent))

    for _ in sent:
        assert (await connection.answer())[0] == 200
    assert [request.path.encode() for request in requests(recorder)] == [each[1:] for each in sent]


async def test_nothing_after_a_last_request_is_one(
    connection: Connection, recorder: Recorder
) -> None:
    await connection.send(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + SECOND)

    assert (await connection.answer())[0] == 200
    await connection.until_closed()
    assert len(requests(recorder)) == 1


async def test_a_client_that_sends_ahead_without_end_is_stopped(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HELD", 100_000)
    with pytest.raises(ConnectionError):  # noqa: PT012
        await connection.send(SECOND)
        for _ in range(20_000):
            await connection.send(SECOND * 100)


@pytest.mark.usefixtures("short")
async def test_a_client_that_reads_nothing_is_let_go(server: tuple[Recorder, int]) -> None:
    recorder, port = server
    recorder.answer = bytes(30_000_000)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(SECOND)
    writer.transport.pause_reading()  # type: ignore[attr-defined]

    async with asyncio.timeout(20):
        while not recorder.is_gone:
            await asyncio.sleep(0.05)
    writer.transport.abort()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        SECOND,
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + SECOND,
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\nx",
        SECOND.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost"),
    ],
)
async def test_nothing_of_a_connection_is_left_for_the_garbage_collector(
    server: tuple[Recorder, int], raw: bytes
) -> None:
    def alive() -> int:
        # `type()` instead of `__class__`, which may fail for a weak proxy.
        return sum(issubclass(type(each), BoundedHttpProtocol) for each in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(5):
            await answered(server[1], raw)
        async with asyncio.timeout(5):
            while alive() > before:
                await asyncio.sleep(0.05)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/api/ws", b"/api/ws"),
        (b"/api/ws?a=/b://c", b"/api/ws"),
        (b"http://a:80/api/ws?ticket=x", b"/api/ws"),
        (b"http://a", b"/"),
        (b"/api/%77s", b"/api/ws"),
        (b"/a%2", b"/a%2"),
        (b"/http://a/api/ws", b"/http://a/api/ws"),
        (b"http://a?b=/c", b"/"),
        (b"*", b"*"),
    ],
)
def test_the_path_is_the_same_in_every_form_of_a_target(target: bytes, path: bytes) -> None:
    assert path_of(origin_form(target)) == path


def test_a_target_that_names_its_host_keeps_its_query() -> None:
    assert origin_form(b"http://a/b?c=d://e") == b"/b?c=d://e"
    assert origin_form(b"https://a?c") == b"/?c"
    assert origin_form(b"/a?b=http://c/d") == b"/a?b=http://c/d"
