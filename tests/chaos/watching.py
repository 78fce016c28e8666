"""Watchers of a run: streams over SSE and WebSocket that stay open, and resume if they break."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.status.live.filter import Filter
from tests.journeys.gapless.checker import Observation
from tests.journeys.gapless.observers import Observer

FILTERS = (Filter(), Filter(label="group:0"), Filter(label="group:1"))
"""What is followed, each over both ways: all files, and some of them."""

NEVER = 1e9
"""Seconds after which a watcher closes its connection itself, on average."""


@asynccontextmanager
async def watchers(status_url: str) -> AsyncIterator[Sequence[Observation]]:
    """Watch a status service for the time of a block; entered when all streams are open."""
    observers = [
        Observer(
            Observation(f"{wanted.label or 'all files'} over {over}", wanted),
            over=over,
            addresses=[status_url],
            rng=random.Random(f"watcher {number} {over}"),
            patience=NEVER,
        )
        for number, wanted in enumerate(FILTERS)
        for over in ("sse", "ws")
    ]
    watching = [asyncio.create_task(each.run()) for each in observers]
    try:
        await asyncio.gather(*(each.subscribed.wait() for each in observers))
        yield [each.observation for each in observers]
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
