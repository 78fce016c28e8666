"""Run an ASGI application as a service process that shuts down cleanly on SIGTERM and SIGINT."""

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
"""Seconds of the grace period reserved for the lifespan to close its connections, after open
requests have finished."""

BACKLOG = 2048
"""Connections that may wait to be accepted. Many clients may connect at once."""

GARBAGE_AFTER = 200_000
"""Live objects created before the garbage collector runs: at most about 30 MB. Objects that a
service creates in large numbers have no cycles. At Python's default of 700, collection took a third
of the time of folding events; at 50,000, the size of a batch of events, still a tenth."""


def collect_rarely() -> None:
    """Run the garbage collector rarely, and exclude everything that was imported."""
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])


class _Server(uvicorn.Server):
    """Calls the application's signal callback before uvicorn waits for open connections."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_signal()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IPv4 or IPv6 address, or on the first address of a name.

    `::` listens on all IPv4 and IPv6 addresses, where the system supports that.

    Raises:
        OSError: the host is not an address of this machine, or the port is in use.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # For a name with both kinds of addresses, clients expect IPv4.
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
    """Serve `app` until SIGTERM or SIGINT, then shut down within `shutdown_grace` seconds.

    Args:
        on_signal: called from the signal handler, before uvicorn waits for open connections. It
            must end endless streams, or uvicorn would wait for them.
        http, ws: protocol classes, for services that need more than ASGI offers.

    Raises:
        SystemExit: the service cannot listen on the address; the message names it.
    """
    collect_rarely()
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
            f"Cannot listen on {place} (WAYBILL_HOST, WAYBILL_PORT): {error}."
        ) from error
    with listener:
        _Server(config, on_signal).run(sockets=[listener])
