"""Observers over SSE and WebSocket, which lose their connections and come back with a cursor."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import websockets

from services.status.live.filter import Filter
from shared.events.events import utc_now
from tests.journeys.gapless.checker import Observation, Seen

Message = dict[str, Any]

COME_BACK = 0.5
"""Seconds until an observer connects again, at most."""

OPEN_TIMEOUT = 10.0
"""Seconds in which a pod that is there answers."""

LOST = (OSError, EOFError, websockets.WebSocketException, TimeoutError, ConnectionError)


class Observer:
    """One who follows files, on whichever pod it finds."""

    def __init__(
        self,
        observation: Observation,
        *,
        over: str,
        addresses: Sequence[str],
        rng: random.Random,
        patience: float,
    ) -> None:
        """Args:
        over: `sse` or `ws`.
        patience: seconds after which a connection is cut, on average.
        """
        self.observation = observation
        self._over = over
        self._addresses = addresses
        self._rng = rng
        self._patience = patience
        self._cursor: str | None = None
        self.connections = 0
        self.subscribed = asyncio.Event()
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Observe until cancelled."""
        while True:
            with suppress(*LOST):
                async with asyncio.timeout(self._rng.expovariate(1 / self._patience)):
                    await self._connect()
            await asyncio.sleep(self._rng.random() * COME_BACK)

    async def _connect(self) -> None:
        address = self._rng.choice(self._addresses)
        over = over_sse if self._over == "sse" else over_websocket
        self.connections += 1
        async for message in over(address, self.observation.wanted, self._cursor):
            if self._cursor is None and "cursor" in message:
                self.observation.first_cursor = self.connections
            self._cursor = message.get("cursor") or self._cursor
            match message["type"]:
                case "status":
                    status = message["status"]
                    seen = Seen(
                        status["file_id"],
                        tuple(status["position"]),
                        status["status"],
                        self.connections,
                        hash(orjson.dumps(status, option=orjson.OPT_SORT_KEYS)),
                    )
                    self.observation.seen.append(seen)
                    self.observation.heard_at.append(utc_now())
                case "subscribed":
                    self.subscribed.set()
                case "reset":
                    self.observation.resets += 1
                case "heartbeat":
                    self.opened.set()
                case "error":
                    raise ConnectionError(message["message"])


def _parameters(wanted: Filter, cursor: str | None) -> dict[str, Any]:
    chosen = {
        "ids": sorted(wanted.ids) if wanted.ids is not None else None,
        "owner": wanted.owner,
        "batch_id": wanted.batch_id,
        "label": wanted.label,
        "status": wanted.status and wanted.status.value,
        "cursor": cursor,
    }
    return {name: value for name, value in chosen.items() if value is not None}


async def over_websocket(
    address: str, wanted: Filter, cursor: str | None
) -> AsyncIterator[Message]:
    """The messages of a WebSocket."""
    url = address.replace("http", "ws", 1) + "/api/ws"
    async with websockets.connect(url, compression=None, open_timeout=OPEN_TIMEOUT) as connection:
        subscribe = {"type": "subscribe", **_parameters(wanted, cursor)}
        await connection.send(orjson.dumps(subscribe).decode())
        async for text in connection:
            yield orjson.loads(text)


async def over_sse(address: str, wanted: Filter, cursor: str | None) -> AsyncIterator[Message]:
    """The messages of an SSE stream, as a WebSocket would give them.

    On bare sockets: five hundred of a whole HTTP client would be busier than what they observe.
    """
    given = _parameters(wanted, cursor)
    if "ids" in given:
        given["ids"] = ",".join(given["ids"])
    host = urlsplit(address)
    reader, writer = await asyncio.open_connection(host.hostname, host.port, limit=1 << 20)
    try:
        request = f"GET /api/stream?{urlencode(given)} HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n"
        writer.write(request.encode())
        async with asyncio.timeout(OPEN_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.splitlines()[0].decode())
        rest = b""
        async for chunk in _chunks(reader):
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                if (message := _message(event.decode())) is not None:
                    yield message
    finally:
        writer.transport.abort()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline() or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)


def _message(event: str) -> Message | None:
    fields = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)
    cursor = {"cursor": fields["id"]} if "id" in fields else {}
    if "data" not in fields:
        return {"type": "heartbeat", **cursor} if cursor else None
    data = orjson.loads(fields["data"])
    if "event" in fields:
        return {"type": fields["event"], **data}
    return {"type": "status", "status": data, **cursor}
