"""Upload files from a separate process: `python -m benchmarks.load URL …`.

Prints one line of JSON with the time of each upload. Time and connections bound the load.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
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
    """Yield a multipart body with one file of `size` bytes, in pieces."""
    block = (b"%PDF-1.7\n" + os.urandom(BLOCK))[: min(BLOCK, size)]
    yield HEAD
    sent = 0
    while sent < size:
        piece = block[: size - sent]
        sent += len(piece)
        yield piece
    yield TAIL


class Line:
    """A connection for successive uploads."""

    def __init__(
        self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._address = urlsplit(url)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, url: str) -> "Line":
        """Open a connection."""
        address = urlsplit(url)
        return cls(url, *await asyncio.open_connection(address.hostname, address.port))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def post_form(self, pieces: Sequence[bytes]) -> None:
        """Upload a form.

        Raises:
            RuntimeError: the upload was not accepted.
        """
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        await self._ask("POST", self._address.path, 202, pieces, {"Content-Type": kind})

    async def resume(self, pieces: Sequence[bytes]) -> None:
        """Upload with tus in two requests.

        Raises:
            RuntimeError: the upload was not accepted.
        """
        size = sum(map(len, pieces))
        begun = await self._ask("POST", self._address.path, 201, (), {"Upload-Length": str(size)})
        path = urlsplit(begun[b"location"].decode()).path
        kind = "application/offset+octet-stream"
        told = {"Upload-Offset": "0", "Content-Type": kind}
        await self._ask("PATCH", path, 204, pieces, told)

    async def _ask(
        self, method: str, path: str, status: int, pieces: Sequence[bytes], told: dict[str, str]
    ) -> dict[bytes, bytes]:
        told = {"Host": self._address.netloc, "Tus-Resumable": "1.0.0", **told}
        told["Content-Length"] = str(sum(map(len, pieces)))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in told.items())
        self._writer.write(head.encode() + b"\r\n")
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
        answer = await self._reader.readuntil(b"\r\n\r\n")
        lines = (line.split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
        fields = {name.lower(): value for name, value in lines}
        content = await self._reader.readexactly(int(fields.get(b"content-length", b"0")))
        if not answer.startswith(b"HTTP/1.1 %d" % status):
            raise RuntimeError(f"the upload was not accepted: {answer + content!r}")
        return fields


async def upload_until(deadline: float, url: str, *, size: int, resumable: bool) -> list[float]:
    """Upload over one connection until the deadline, and return the seconds of each upload.

    Raises:
        RuntimeError: an upload was not accepted.
    """
    line = await Line.to(url)
    pieces = list(body(size))
    if resumable:
        pieces = pieces[1:-1]  # Without the form around the content.
    if size <= BLOCK:
        pieces = [b"".join(pieces)]
    upload = line.resume if resumable else line.post_form
    took: list[float] = []
    while (begun := time.monotonic()) < deadline:
        await upload(pieces)
        took.append(time.monotonic() - begun)
    line.close()
    return took


async def run(
    url: str, *, size: int, connections: int, seconds: float, resumable: bool = False
) -> dict[str, object]:
    """Load a server for so many seconds, and wait for the uploads in progress."""
    begun = time.monotonic()
    uploads = (
        upload_until(begun + seconds, url, size=size, resumable=resumable)
        for _ in range(connections)
    )
    took = [seconds for of_one in await asyncio.gather(*uploads) for seconds in of_one]
    return {"seconds": time.monotonic() - begun, "requests": len(took), "took": took}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--resumable", action="store_true", help="use tus instead of a form")
    asked = parser.parse_args()
    result = uvloop.run(
        run(
            asked.url,
            size=asked.size,
            connections=asked.connections,
            seconds=asked.seconds,
            resumable=asked.resumable,
        )
    )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
