"""What one subscriber is told, in order, whichever way it is sent."""

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
"""Seconds after a snapshot until the first cursor: many times what the tail needs to bring what
MongoDB knew, on a pod that does not lag."""


async def feed(
    hub: Hub,
    subscription: Subscription,
    cursor: StreamCursor | None,
    direct_writer: DirectWriter | None = None,
) -> AsyncGenerator[Subscribed | Reset | Batch, None]:
    """What a subscriber is told from the beginning until the subscription is closed.

    To be begun in the same step as the subscription.

    Args:
        cursor: what the subscriber was told before; None if it comes for the first time.
        direct_writer: tells what comes while the subscriber waits here for it.

    Raises:
        UnavailableError: MongoDB does not answer.
    """
    async with aclosing(_opening(hub, subscription, cursor)) as opening:
        async for told in opening:
            yield told
    del opening, told  # What was told at first is not to stay as long as the subscription does.
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
    """What was missed, or the present states, up to the first cursor."""
    missed = None if cursor is None else hub.missed(subscription, cursor)
    if missed is not None:
        begun = hub.last_batch.text
        yield Subscribed()
        for told in missed:
            for batch in _chunks(told.updates, told.text):
                yield batch
        subscription.is_live = True
        yield Batch((), begun)
        return
    snapshot = await hub.snapshot(subscription)
    kind = Subscribed if cursor is None else Reset
    yield kind(complete=snapshot.is_complete)
    for batch in _chunks(snapshot.updates, None):
        yield batch
    # MongoDB may be ahead of this pod's tail, and a cursor from behind the snapshot would lead
    # back to states that are older than those just told.
    settled = time.monotonic() + SETTLING
    while not subscription.closed and not (hub.is_at_end and time.monotonic() >= settled):
        for batch in _chunks(await subscription.wait(SETTLING), None):
            yield batch
    arrived = await subscription.wait(0)
    subscription.is_live = True
    yield Batch(arrived, hub.last_batch.text)


def _chunks(updates: Sequence[Update], cursor: str | None) -> list[Batch]:
    """The cursor goes with the last chunk."""
    rest = iter(updates)
    chunks = list(iter(lambda: list(islice(rest, MAX_BATCH)), []))
    return [
        Batch(chunk, cursor if number == len(chunks) else None)
        for number, chunk in enumerate(chunks, 1)
    ]
