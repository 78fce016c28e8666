"""Ask the service in this container whether it is ready; exits with 0 if it is.

The image has no curl, and a container's health is asked for every few seconds: only the smallest
part of the standard library is loaded.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 3.0
"""Seconds; below the time after which Docker gives up on this process itself."""


LOOPBACKS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound
"""Where a service that listens on all addresses is asked."""


def trouble(host: str, port: int) -> str | None:
    """Why the service that listens there is not ready; None when it is."""
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
    sys.exit(trouble(os.environ.get("WAYBILL_HOST", ""), int(os.environ["WAYBILL_PORT"])))
