"""A connection to the real Kafka that a test can cut, silence and restore."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KafkaLine:
    """A relay in front of one broker.

    Kafka sends the broker addresses to its clients. The relay replaces the broker's port by its
    own, so that clients keep using the relay.
    """

    def __init__(self, kafka: str) -> None:
        self._host, _, port = kafka.partition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._answers_pass = asyncio.Event()
        self._answers_pass.set()
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Accept connections, also after `cut`."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._answers_pass.set()

    async def cut(self) -> None:
        """Drop all connections and refuse new ones, like a dead broker."""
        if self._server is not None:
            self._server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def silence(self) -> None:
        """Forward requests to Kafka, but drop its responses."""
        self._answers_pass.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        there, back = await asyncio.open_connection(self._host, self._port)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, back))
                    both.create_task(self._pump_answers(there, writer))
            except* (OSError, EOFError):
                pass
        back.close()
        writer.transport.abort()

    async def _pump_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        named = self._host.encode() + struct.pack(">i", self._port)
        ours = self._host.encode() + struct.pack(">i", self.port)
        while True:
            size = await reader.readexactly(4)
            answer = await reader.readexactly(struct.unpack(">i", size)[0])
            await self._answers_pass.wait()
            writer.write(size + answer.replace(named, ours))
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise EOFError


@asynccontextmanager
async def line_to(kafka: str) -> AsyncIterator[KafkaLine]:
    """Open a relay for the block."""
    line = KafkaLine(kafka)
    await line.open()
    try:
        yield line
    finally:
        await line.cut()
