"""Read statuses from a separate process: `python -m benchmarks.polling URL …`.

Reads ids from standard input, one per line, and requests them in turn. Prints one line of JSON with
the time of each request. Time and connections bound the load.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from urllib.parse import urlsplit

import uvloop


async def ask_until(deadline: float, url: str, ids: Iterator[str]) -> list[float]:
    """Send requests over one connection until the deadline, and return the seconds of each.

    Raises:
        RuntimeError: an answer was not 200.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    took: list[float] = []
    while (begun := time.monotonic()) < deadline:
        path = f"/api/files/{next(ids)}/process/status"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"expected 200: {answer!r}")
        length = answer.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length))
        took.append(time.monotonic() - begun)
    writer.close()
    return took


async def run(url: str, ids: list[str], *, connections: int, seconds: float) -> list[float]:
    """Send requests for so many seconds, and wait for those in progress."""
    deadline = time.monotonic() + seconds
    turn = cycle(ids)
    each = await asyncio.gather(*(ask_until(deadline, url, turn) for _ in range(connections)))
    return [seconds for of_one in each for seconds in of_one]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    ids = sys.stdin.read().split()
    took = uvloop.run(run(asked.url, ids, connections=asked.connections, seconds=asked.seconds))
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
