"""Many uploading clients, some of which disconnect early or do not wait for the response."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.upload.api.uploads import UPLOAD
from shared.settings import DEMO_TYPE

BOUNDARY = b"crowd"

FAITHFUL = 0.6
"""Share of clients that send the whole body, and share of these that wait for the response."""


@dataclass(frozen=True)
class Visit:
    """The outcome of one client's upload."""

    name: str
    """Name of the file."""
    size: int
    status: int | None = None
    """Status of the response; None if the client did not wait for it."""
    answer: dict[str, Any] | None = None

    @property
    def code(self) -> str | None:
        """Return the problem code of an error response."""
        return self.answer.get("code") if self.answer else None


async def visits(
    port: int,
    *,
    clients: int,
    at_once: int,
    sizes: Sequence[int],
    seed: int = 7,
    faithful: float = FAITHFUL,
) -> list[Visit]:
    """Let a number of clients upload a demo file each, with unique names."""
    dice = random.Random(seed)
    turns = asyncio.Semaphore(at_once)

    async def visit(number: int) -> Visit:
        async with turns:
            return await _visit(port, f"{seed}-{number}.json", dice, sizes, faithful)

    return await asyncio.gather(*map(visit, range(clients)))


async def _visit(
    port: int, name: str, dice: random.Random, sizes: Sequence[int], faithful: float
) -> Visit:
    raw, size = _request(name, dice.choice(sizes))
    sends_all, waits = dice.random() < faithful, dice.random() < faithful
    cut = len(raw) if sends_all else dice.randrange(len(raw))
    pause = 0 if sends_all else dice.random() / 20
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw[:cut])
        await writer.drain()
        if not (sends_all and waits):
            await asyncio.sleep(pause)
            writer.transport.abort()
            return Visit(name, size)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return Visit(name, size, int(head.split()[1]), json.loads(body))
    except ConnectionError:
        return Visit(name, size)  # Rejected while it was sending and not reading.
    finally:
        writer.close()


def _request(name: str, padding: int) -> tuple[bytes, int]:
    """Return a form with one file, and the file's size."""
    content = json.dumps({"padding": "x" * padding}).encode()
    body = (
        b"--%s\r\nContent-Disposition: form-data; name=file; filename=%s\r\n"
        b"Content-Type: %s\r\n\r\n%s\r\n--%s--\r\n"
        % (BOUNDARY, name.encode(), DEMO_TYPE.encode(), content, BOUNDARY)
    )
    head = (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
    )
    return head.encode() + body, len(content)
