"""Commands become facts in Kafka, and their answers tell what a pod knows that knows of them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from services.status.live.filter import Filter
from services.status.live.hub import Hub
from services.status.projection.projection import Status
from shared.events.events import Event
from shared.kafka.publishing import Publisher

SOURCE = "/status"

SEEN_WITHIN = 2.0
"""Seconds to wait until this pod's own tail brings the event, so that who asks for the status next
is not told of the last one. It takes milliseconds; a pod that lags answers all the same."""


async def publish_and_see(
    hub: Hub,
    publisher: Publisher,
    event: Event,
    *,
    seen: Callable[[Status], bool],
    wanted: Filter | None = None,
) -> None:
    """Publish an event about a file, and wait a moment until this pod knows it.

    Args:
        seen: whether a status is that after the event.
        wanted: what follows the event, if that is not whatever follows the file.

    Raises:
        UnavailableError: Kafka or MongoDB does not answer, or this pod has too many subscribers.
    """
    with hub.subscribe(wanted or Filter(ids=frozenset({event.file_id}))) as news:
        await publisher.publish(event)
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_WITHIN):
                while not news.closed:
                    current = await hub.current(event.file_id)
                    if current is not None and seen(current.status):
                        return
                    await news.wait(SEEN_WITHIN)
