"""Ports of the loopback."""

import random
import socket
import time
from collections.abc import Callable

from waybill.errors import StackError

HOST = "127.0.0.1"

LASTING = range(20_000, 32_768)
"""Below the ports that Linux gives to outgoing connections: one of these might take the port of a
service that is being started again, its own client's even, which tries to reach it meanwhile."""

TRIES = 100
"""Ports that are looked at before it is a riddle why none is free."""


_given: set[int] = set()
"""What has been handed out: whoever got a port may not listen on it yet."""


def free_port(host: str = HOST) -> int:
    """A port that nobody listens on now, and that a service which starts again finds free.

    No port is handed out twice by one process.

    Raises:
        StackError: there is none.
    """
    for port in random.SystemRandom().sample(LASTING, TRIES):
        if port not in _given and is_free(port, host):
            _given.add(port)
            return port
    raise StackError(f"No port from {LASTING[0]} to {LASTING[-1]} is free.")


def is_free(port: int, host: str = HOST) -> bool:
    """Whether somebody could listen on a port of a host now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def choose_port(
    given: int | None, preferred: int, tell: Callable[[str], None], *, host: str = HOST
) -> int:
    """The port to use: the one given, or the preferred one, or a free one.

    Args:
        given: what the user asked for; 0 asks for a free one, None leaves it to us.

    Raises:
        StackError: the port that the user asked for is taken.
    """
    if given == 0:
        return free_port(host)
    if given is not None:
        if not is_free(given, host):
            raise StackError(f"Port {given} is taken; give another one, or 0 for a free one.")
        return given
    if is_free(preferred, host):
        return preferred
    port = free_port(host)
    tell(f"port {preferred} is taken, using {port} instead")
    return port


def answers(port: int) -> bool:
    """Whether somebody accepts connections on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def wait_for_port(port: int, *, seconds: float, alive: Callable[[], bool], what: str) -> None:
    """Return when somebody accepts connections on a port.

    Raises:
        StackError: the process ended, or nobody listened in that time.
    """
    deadline = time.monotonic() + seconds
    while not answers(port):
        if not alive():
            raise StackError(f"{what} ended while it was starting.")
        if time.monotonic() > deadline:
            raise StackError(f"{what} did not listen on port {port} within {seconds:g} s.")
        time.sleep(0.05)
