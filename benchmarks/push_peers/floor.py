"""The floor: an asyncio protocol that writes the same bytes to every transport."""

import asyncio
import sys
from typing import cast

import uvloop

from benchmarks.push_peers.messages import messages

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


class Listener(asyncio.Protocol):
    """A connection that receives the messages."""

    transports: set[asyncio.Transport] = set()  # noqa: RUF012 - of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        transport.write(HEAD)
        self.transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.transports.discard(self._transport)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Listener, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - read by the parent
    async for message in messages(float(sys.argv[1]), int(sys.argv[2])):
        frame = b"data: " + message + b"\n\n"
        for transport in Listener.transports:
            transport.write(frame)


if __name__ == "__main__":
    uvloop.run(main())
