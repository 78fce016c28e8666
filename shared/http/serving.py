"""Running an ASGI application as a service process that ends cleanly on SIGTERM and SIGINT."""

import gc
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from shared.addresses import in_url
from shared.http.limits import MAX_MESSAGE
from shared.http.protocol import BoundedHttpProtocol
from shared.http.shutdown import ShutdownAnswers
from shared.http.websocket import BoundedWebSocketProtocol
from shared.settings import Settings

CLOSING_TIME = 2
"""Seconds of the grace that are kept for the lifespan to close its connections, after open requests
have been waited for."""

BACKLOG = 2048
"""Connections that wait to be accepted: a crowd may come at once."""

GARBAGE_AFTER = 200_000
"""Objects made, and not freed by themselves, before the collector looks for cycles: at most some 30
MB. What a service makes by the thousand has no cycles. At Python's 700 the looking was a third of
the time of folding events; at 50,000, and a batch of events is so many, still a tenth."""


def collect_seldom() -> None:
    """Have the garbage collector look seldom, and not at what has been imported."""
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])


class _Server(uvicorn.Server):
    """Tells the application of the signal before uvicorn begins to wait for open connections."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_signal()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IPv4 or IPv6 address, or on the first one of a name.

    `::` is all addresses of both kinds, where the system can do that.

    Raises:
        OSError: the host is not of this machine, or the port is taken.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of a name with both kinds the older one, where clients look for it.
    family, _, _, _, address = min(found, key=lambda each: each[0] is not socket.AF_INET)
    return socket.create_server(
        address,
        family=family,
        backlog=BACKLOG,
        reuse_port=False,
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
    )


def serve(
    app: FastAPI,
    settings: Settings,
    *,
    on_signal: Callable[[], None] = lambda: None,
    http: type[BoundedHttpProtocol] = BoundedHttpProtocol,
    ws: type[BoundedWebSocketProtocol] = BoundedWebSocketProtocol,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, then end within `shutdown_grace` seconds.

    Args:
        on_signal: called from the signal handler, before open connections are waited for: a
            stream that lasts for ever must be told to end, or uvicorn would wait for it.
        http, ws: what speaks HTTP and WebSocket, if the service needs more of it than ASGI gives.

    Raises:
        SystemExit: the address cannot be listened on; the message says which.
    """
    collect_seldom()
    config = uvicorn.Config(
        ShutdownAnswers(app),
        log_config=None,
        access_log=False,
        loop="uvloop",
        http=http,
        ws=ws,
        ws_per_message_deflate=False,
        ws_max_size=MAX_MESSAGE,
        timeout_graceful_shutdown=max(0, int(settings.shutdown_grace) - CLOSING_TIME),
        server_header=False,
    )
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        place = f"{in_url(settings.host)}:{settings.port}"
        raise SystemExit(
            f"Nobody can listen on {place} (WAYBILL_HOST, WAYBILL_PORT): {error}."
        ) from error
    with listener:
        _Server(config, on_signal).run(sockets=[listener])
