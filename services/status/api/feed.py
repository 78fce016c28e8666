"""The messages for one subscriber, in order, independent of the transport."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import islice

from services.status.api.messages import Reset, Subscribed
from services.status.live.cursor import StreamCursor
from services.status.live.hub import Hub
from services.status.live.subscription import MAX_BATCH, DirectWriter, Subscription
from services.status.live.update import Batch, Update

SETTLING = 0.5
"""Seconds from a snapshot to the first cursor. On a pod that does not lag, the tail needs a
fraction of this to deliver what MongoDB already had."""


async def feed(
    hub: Hub,
    subscription: Subscription,
    cursor: StreamCursor | None,
    direct_writer: DirectWriter | None = None,
) -> AsyncGenerator[Subscribed | Reset | Batch, None]:
    """Yield a subscriber's messages from the start until the subscription is closed.

    Must start in the same event-loop step as the subscription.

    Args:
        cursor: the subscriber's last cursor; None on its first connection.
        direct_writer: delivers updates while the subscriber is waiting for them here.

    Raises:
        UnavailableError: MongoDB is unavailable.
    """
    async with aclosing(_opening(hub, subscription, cursor)) as opening:
        async for message in opening:
            yield message
    del opening, message  # Do not keep the first messages for the life of the subscription.
    subscription.direct_writer = direct_writer
    while not subscription.closed:
        arrived = await subscription.wait()
        if len(arrived) > MAX_BATCH:
            for batch in _chunks(arrived, hub.last_batch.text):
                yield batch
        elif not subscription.closed or arrived:
            yield Batch(arrived, hub.last_batch.text)


async def _opening(
    hub: Hub, subscription: Subscription, cursor: StreamCursor | None
) -> AsyncGenerator[Subscribed | Reset | Batch, None]:
    """Yield the missed states, or the current ones, up to the first cursor."""
    missed = None if cursor is None else hub.missed(subscription, cursor)
    if missed is not None:
        begun = hub.last_batch.text
        yield Subscribed()
        for missed_batch in missed:
            for batch in _chunks(missed_batch.updates, missed_batch.text):
                yield batch
        subscription.is_live = True
        yield Batch((), begun)
        return
    snapshot = await hub.snapshot(subscription)
    kind = Subscribed if cursor is None else Reset
    yield kind(complete=snapshot.is_complete)
    for batch in _chunks(snapshot.updates, None):
        yield batch
    # MongoDB may be ahead of this pod's tail. A cursor from before the snapshot would replay states
    # older than those just sent.
    settled = time.monotonic() + SETTLING
    while not subscription.closed and not (hub.is_at_end and time.monotonic() >= settled):
        for batch in _chunks(await subscription.wait(SETTLING), None):
            yield batch
    arrived = await subscription.wait(0)
    subscription.is_live = True
    yield Batch(arrived, hub.last_batch.text)


def _chunks(updates: Sequence[Update], cursor: str | None) -> list[Batch]:
    """Split updates into batches; the last one carries the cursor."""
    rest = iter(updates)
    chunks = list(iter(lambda: list(islice(rest, MAX_BATCH)), []))
    return [
        Batch(chunk, cursor if number == len(chunks) else None)
        for number, chunk in enumerate(chunks, 1)
    ]
