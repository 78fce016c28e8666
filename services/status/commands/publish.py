"""Publish events, and wait until this pod's own tail has delivered them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from services.status.live.filter import Filter
from services.status.live.hub import Hub
from services.status.projection.projection import Status
from shared.events.events import Event
from shared.kafka.publishing import Publisher

SOURCE = "/status"

SEEN_TIMEOUT = 2.0
"""Seconds to wait until this pod's own tail delivers the event, so that the next status request
does not return the previous state. It takes milliseconds. A lagging pod answers without it."""


async def publish_and_see(
    hub: Hub,
    publisher: Publisher,
    event: Event,
    *,
    seen: Callable[[Status], bool],
    wanted: Filter | None = None,
) -> None:
    """Publish an event about a file, and wait briefly until this pod has seen it.

    Args:
        seen: returns True for a status that includes the event.
        wanted: the filter that matches the event; by default, the file's id.

    Raises:
        UnavailableError: Kafka or MongoDB is unavailable, or this pod has too many subscribers.
    """
    with hub.subscribe(wanted or Filter(ids=frozenset({event.file_id}))) as news:
        await publisher.publish(event)
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_TIMEOUT):
                while not news.closed:
                    current = await hub.current(event.file_id)
                    if current is not None and seen(current.status):
                        return
                    await news.wait(SEEN_TIMEOUT)
