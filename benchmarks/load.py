"""A load of uploads, in a process of its own: `python -m benchmarks.load URL …`.

Prints one line of JSON: what was answered in which time. Bounded by time, and by the connections.
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
    """A multipart body with one file of `size` bytes, in pieces."""
    block = (b"%PDF-1.7\n" + os.urandom(BLOCK))[: min(BLOCK, size)]
    yield HEAD
    sent = 0
    while sent < size:
        piece = block[: size - sent]
        sent += len(piece)
        yield piece
    yield TAIL


class Line:
    """A connection over which one upload follows the other."""

    def __init__(
        self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._address = urlsplit(url)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, url: str) -> "Line":
        """Connect."""
        address = urlsplit(url)
        return cls(url, *await asyncio.open_connection(address.hostname, address.port))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def post_form(self, pieces: Sequence[bytes]) -> None:
        """Upload by a form.

        Raises:
            RuntimeError: it was not accepted.
        """
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        await self._ask("POST", self._address.path, 202, pieces, {"Content-Type": kind})

    async def resume(self, pieces: Sequence[bytes]) -> None:
        """Upload after tus, in two requests; raises what `post_form` does."""
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
            raise RuntimeError(f"not accepted: {answer + content!r}")
        return fields


async def upload_until(deadline: float, url: str, *, size: int, resumable: bool) -> list[float]:
    """Upload over one connection, one after another; returns the seconds each took.

    Raises:
        RuntimeError: an upload was not accepted.
    """
    line = await Line.to(url)
    pieces = list(body(size))
    if resumable:
        pieces = pieces[1:-1]  # What wraps it in a form.
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
    """Load a server for so many seconds; what is under way then is waited for."""
    begun = time.monotonic()
    uploads = (
        upload_until(begun + seconds, url, size=size, resumable=resumable)
        for _ in range(connections)
    )
    took = [seconds for of_one in await asyncio.gather(*uploads) for seconds in of_one]
    return {"seconds": time.monotonic() - begun, "requests": len(took), "took": took}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--resumable", action="store_true", help="after tus, not by a form")
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
