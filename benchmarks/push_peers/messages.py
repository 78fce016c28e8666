"""The messages that every peer sends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator


async def messages(rate: float, size: int) -> AsyncIterator[bytes]:
    """Yield `rate` messages per second, each with `size` bytes of padding."""
    begun, number = time.monotonic(), 0
    while True:
        number += 1
        await asyncio.sleep(begun + number / rate - time.monotonic())
        yield json.dumps({"delivery": number, "padding": "x" * size}).encode()
