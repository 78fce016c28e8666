"""A load of uploads, in a process of its own: `python -m benchmarks.load URL …`.

Prints one line of JSON: what was answered in which time. Bounded by time, and by the connections.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvloop

BLOCK = 1 << 18
BOUNDARY = b"waybill-benchmark"
HEAD = (
    b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n'
    b"Content-Type: application/pdf\r\n\r\n"
)
TAIL = b"\r\n--" + BOUNDARY + b"--\r\n"


def body(size: int) -> Iterator[bytes]:
    """A multipart body with one file of `size` bytes, in pieces."""
    block = (b"%PDF-1.7\n" + os.urandom(BLOCK))[: min(BLOCK, size)]
    yield HEAD
    sent = 0
    while sent < size:
        piece = block[: size - sent]
        sent += len(piece)
        yield piece
    yield TAIL


async def upload_until(deadline: float, url: str, size: int) -> list[float]:
    """Upload over one connection, one after another; returns the seconds each took.

    Raises:
        RuntimeError: an upload was not accepted.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    length = size + len(HEAD) + len(TAIL)
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
    ).encode()
    pieces = [b"".join(body(size))] if size <= BLOCK else list(body(size))
    took: list[float] = []
    while (begun := time.monotonic()) < deadline:
        writer.write(head)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
        content = await reader.readexactly(int(fields[b"content-length"]))
        if not answer.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(f"not accepted: {answer + content!r}")
        took.append(time.monotonic() - begun)
    writer.close()
    return took


async def run(url: str, *, size: int, connections: int, seconds: float) -> dict[str, object]:
    """Load a server for so many seconds; what is under way then is waited for."""
    begun = time.monotonic()
    deadline = begun + seconds
    each = await asyncio.gather(*(upload_until(deadline, url, size) for _ in range(connections)))
    took = [seconds for of_one in each for seconds in of_one]
    return {"seconds": time.monotonic() - begun, "requests": len(took), "took": took}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    asked = parser.parse_args()
    result = uvloop.run(
        run(asked.url, size=asked.size, connections=asked.connections, seconds=asked.seconds)
    )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
