"""Watchers of a run: SSE and WebSocket streams that stay open and resume when they break."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.status.live.filter import Filter
from tests.journeys.gapless.checker import Observation
from tests.journeys.gapless.observers import Observer

FILTERS = (Filter(), Filter(label="group:0"), Filter(label="group:1"))
"""Filters, each followed over both protocols: all files, and subsets."""

NEVER = 1e9
"""Average seconds after which a watcher closes its connection itself."""


@asynccontextmanager
async def watchers(status_url: str) -> AsyncIterator[Sequence[Observation]]:
    """Watch a status service during the block, entered when all streams are open."""
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
