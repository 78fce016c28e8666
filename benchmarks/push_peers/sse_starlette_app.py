"""sse-starlette under uvicorn, one queue per connection."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.push_peers.messages import messages

queues: set[asyncio.Queue[bytes]] = set()


async def listen(_: Request) -> Response:
    async def events() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        queues.add(queue)
        try:
            while True:
                yield {"data": (await queue.get()).decode()}
        finally:
            queues.discard(queue)

    answer: Response = EventSourceResponse(events())
    return answer


async def send() -> None:
    async for message in messages(float(sys.argv[1]), int(sys.argv[2])):
        for queue in queues:
            queue.put_nowait(message)


async def main() -> None:
    app = Starlette(routes=[Route("/", listen)])
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print("ready", listener.getsockname()[1], flush=True)  # noqa: T201 - read by the parent
        config = uvicorn.Config(app, log_config=None, access_log=False)
        sending = asyncio.create_task(send())
        await uvicorn.Server(config).serve(sockets=[listener])
        sending.cancel()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
