"""Find free ports and wait for them to accept connections."""

import random
import socket
import time
from collections.abc import Callable

from waybill.errors import StackError

HOST = "127.0.0.1"

PORT_RANGE = range(20_000, 32_768)
"""Ports below Linux's ephemeral range. An outgoing connection could otherwise occupy the port of a
service that is restarting, even the connection of its own client."""

TRIES = 100
"""Ports to try before giving up."""


_allocated: set[int] = set()
"""Ports already returned. Their services may not listen yet."""


def free_port(host: str = HOST) -> int:
    """Return a free port below the ephemeral range, which stays free while a service restarts.

    One process never returns the same port twice.

    Raises:
        StackError: No port is free.
    """
    for port in random.SystemRandom().sample(PORT_RANGE, TRIES):
        if port not in _allocated and is_free(port, host):
            _allocated.add(port)
            return port
    raise StackError(
        f"No free port found from {PORT_RANGE[0]} to {PORT_RANGE[-1]}; stop other services."
    )


def is_free(port: int, host: str = HOST) -> bool:
    """Return True if a service could listen on the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def choose_port(
    requested: int | None, preferred: int, report: Callable[[str], None], *, host: str = HOST
) -> int:
    """Return the requested port, or else the preferred one if it is free, or else any free one.

    Args:
        requested: Port that the user requested; 0 for any free port, None for no preference.
        preferred: Default port.
        report: Called with a message if the preferred port is taken.
        host: Address to listen on.

    Raises:
        StackError: The requested port is taken.
    """
    if requested == 0:
        return free_port(host)
    if requested is not None:
        if not is_free(requested, host):
            raise StackError(
                f"Port {requested} is taken; choose another one, or 0 for a free port."
            )
        return requested
    if is_free(preferred, host):
        return preferred
    port = free_port(host)
    report(f"port {preferred} is taken, using {port} instead")
    return port


def answers(port: int) -> bool:
    """Return True if a service accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def wait_for_port(port: int, *, seconds: float, alive: Callable[[], bool], what: str) -> None:
    """Wait until a service accepts connections on a port.

    Args:
        port: The port.
        seconds: Maximum seconds to wait.
        alive: Returns True while the process runs.
        what: Name of the service, for messages.

    Raises:
        StackError: The process exited, or did not listen in time.
    """
    deadline = time.monotonic() + seconds
    while not answers(port):
        if not alive():
            raise StackError(f"{what} exited during startup.")
        if time.monotonic() > deadline:
            raise StackError(f"{what} did not listen on port {port} within {seconds:g} s.")
        time.sleep(0.05)
