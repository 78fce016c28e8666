"""Wait for the first or the next state of one file."""

import asyncio

from services.status.live.filter import Filter
from services.status.live.hub import Hub, is_over
from services.status.live.update import Update
from services.status.store.access import EVERYTHING, Visibility
from shared.errors import UnavailableError


async def first_known(
    hub: Hub, file_id: str, visible_to: Visibility, *, seconds: float
) -> Update | None:
    """Return the state of a file that the hub does not hold, from the tail or the stores.

    Whichever has the file first wins. The tail does not need MongoDB, so a failing or frozen store
    does not end the wait for the tail.

    Args:
        hub: the hub of this pod.
        file_id: id of the file.
        visible_to: the files that the reader may see.
        seconds: how long to wait for the tail once the stores do not know the file.

    Raises:
        UnavailableError: the stores are unavailable and the tail has not delivered the file, or
            this pod has too many subscribers.
    """
    wanted = Filter(ids=frozenset({file_id}), visible_to=visible_to)
    with hub.subscribe(wanted) as subscription:
        lookup = asyncio.ensure_future(hub.current(file_id, visible_to))
        arrival = asyncio.ensure_future(subscription.wait(seconds))
        failure: UnavailableError | None = None
        try:
            await asyncio.wait((lookup, arrival), return_when=asyncio.FIRST_COMPLETED)
            if not (arrival.done() and arrival.result()):
                try:
                    if (found := await lookup) is not None:
                        return found
                except UnavailableError as error:
                    failure = error
            arrived = await arrival
        finally:
            for each in (lookup, arrival):
                each.cancel()
            await asyncio.gather(lookup, arrival, return_exceptions=True)
    if arrived and not arrived[-1].withdraws:
        return arrived[-1]
    if failure is not None:
        raise failure
    return await hub.current(file_id, visible_to)


async def next_change(
    hub: Hub,
    file_id: str,
    *,
    known: str | None,
    seconds: float,
    visible_to: Visibility = EVERYTHING,
) -> Update | None:
    """Return the state of a file once it differs from the one with the entity tag `known`.

    Without `known`, return the state after the current one. A terminal state is returned at once.
    After the timeout, return the current state, or None if the file is unknown.

    Args:
        hub: the hub of this pod.
        file_id: id of the file.
        known: entity tag of the state that the client has.
        seconds: maximum wait.
        visible_to: the files that the reader may see.
    """
    wanted = Filter(ids=frozenset({file_id}), visible_to=visible_to)
    with hub.subscribe(wanted) as subscription:
        current = await hub.current(file_id, visible_to)
        if current and (is_over(current.status) or known not in (None, current.etag)):
            return current
        if current:
            subscription.has_seen(current.status)
        arrived = await subscription.wait(seconds)
        if arrived and not arrived[-1].withdraws:
            return arrived[-1]
        return await hub.current(file_id, visible_to)
