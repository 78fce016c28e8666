"""What one subscriber is told, in order, whichever way it is sent."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import islice

from services.status.api.messages import Reset, Subscribed
from services.status.cursor import Cursor
from services.status.hub import Hub
from services.status.subscription import Subscription, Update

CHUNK = 100
"""States that are sent in one go, some 70 kB: what a connection buffers for a client that has
stopped reading, before it counts as one."""


@dataclass(frozen=True)
class Batch:
    """States, and the cursor that holds once all of them are told; without states a heartbeat."""

    updates: Sequence[Update]
    cursor: str | None


async def feed(
    hub: Hub, subscription: Subscription, cursor: Cursor | None
) -> AsyncIterator[Subscribed | Reset | Batch]:
    """What a subscriber is told from the beginning until the subscription is closed.

    To be begun in the same step as the subscription.

    Args:
        cursor: what the subscriber was told before; None if it comes for the first time.

    Raises:
        UnavailableError: MongoDB does not answer.
    """
    missed = None if cursor is None else hub.missed(subscription, cursor)
    begun = hub.told.text
    if missed is not None:
        yield Subscribed()
        for told in missed:
            for batch in _chunks(told.updates, told.text):
                yield batch
    else:
        snapshot = await hub.snapshot(subscription)
        opening = Subscribed if cursor is None else Reset
        yield opening(complete=snapshot.is_complete)
        for batch in _chunks(snapshot.updates, None):
            yield batch
    yield Batch((), begun)
    while not subscription.closed:
        arrived = await subscription.wait()
        if len(arrived) > CHUNK:
            for batch in _chunks(arrived, hub.told.text):
                yield batch
        elif not subscription.closed or arrived:
            yield Batch(arrived, hub.told.text)


def _chunks(updates: Sequence[Update], cursor: str | None) -> list[Batch]:
    """The cursor goes with the last chunk."""
    rest = iter(updates)
    chunks = list(iter(lambda: list(islice(rest, CHUNK)), []))
    return [
        Batch(chunk, cursor if number == len(chunks) else None)
        for number, chunk in enumerate(chunks, 1)
    ]
