"""A crowd of clients that upload, some of whom go away in the middle or do not wait."""

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
"""How many send all of it, and how many of these wait for the answer."""


@dataclass(frozen=True)
class Visit:
    """What became of one client's upload."""

    name: str
    """Of its file."""
    size: int
    status: int | None = None
    """None where nobody waited for an answer."""
    answer: dict[str, Any] | None = None

    @property
    def code(self) -> str | None:
        """What kind of refusal it was."""
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
    """Have so many clients upload a demo file each, whose name is told by nobody else."""
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
        return Visit(name, size)  # Refused while it was still sending, and not listening.
    finally:
        writer.close()


def _request(name: str, padding: int) -> tuple[bytes, int]:
    """A form with one file, and how large that is."""
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
