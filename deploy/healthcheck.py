"""Check that the service in this container is ready. Exits with 0 if it is.

The image has no curl. The check runs every few seconds, so it imports only a small part of the
standard library.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 3.0
"""Seconds. Below the timeout of Docker's health check."""


LOOPBACKS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound
"""Address to connect to if the service listens on all addresses."""


def unready_reason(host: str, port: int) -> str | None:
    """Return why the service is not ready; None if it is ready."""
    host = host.strip("[]")
    connection = HTTPConnection(LOOPBACKS.get(host, host), port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return None if answer.status == 200 else answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(unready_reason(os.environ.get("WAYBILL_HOST", ""), int(os.environ["WAYBILL_PORT"])))
