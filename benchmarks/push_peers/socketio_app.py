"""python-socketio under uvicorn, over WebSocket, one room."""

import asyncio
import socket
import sys

import socketio
import uvicorn

from benchmarks.push_peers.messages import messages


async def send(server: socketio.AsyncServer) -> None:
    async for message in messages(float(sys.argv[1]), int(sys.argv[2])):
        await server.emit("status", message.decode())


async def main() -> None:
    server = socketio.AsyncServer(async_mode="asgi")
    app = socketio.ASGIApp(server)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print("ready", listener.getsockname()[1], flush=True)  # noqa: T201 - read by the parent
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="websockets-sansio")
        sending = asyncio.create_task(send(server))
        await uvicorn.Server(config).serve(sockets=[listener])
        sending.cancel()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
