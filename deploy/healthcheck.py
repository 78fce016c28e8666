"""Ask the service in this container whether it is ready; exits with 0 if it is.

The image has no curl, and a container's health is asked for every few seconds: only the smallest
part of the standard library is loaded.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 3.0
"""Seconds; below the time after which Docker gives up on this process itself."""


def trouble(port: int) -> str | None:
    """Why the service on this port is not ready; None when it is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return None if answer.status == 200 else answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(trouble(int(os.environ["WAYBILL_PORT"])))
