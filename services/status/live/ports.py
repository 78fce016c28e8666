"""Small ports of the hub: the outbox as a further source of files, and token expiry."""

import asyncio
from typing import Protocol

from services.status.live.subscription import Subscription
from services.status.projection.projection import Status
from services.status.store.access import Visibility
from shared.auth.accesserrors import TokenExpiredError
from shared.events.moments import utc_now


class Outbox(Protocol):
    """The part of the outbox that the hub uses."""

    @property
    def is_active(self) -> bool:
        """True if files may be in transit from the outbox to Kafka."""

    async def find(self, file_id: str) -> Status | None:
        """Return the status of a file whose upload is in the outbox."""


def close_at_end_of(
    visible_to: Visibility, subscription: Subscription
) -> asyncio.TimerHandle | None:
    """Schedule the end of a subscription for the moment when its credentials expire.

    Returns:
        The timer, or None if the credentials do not expire.

    Raises:
        TokenExpiredError: the credentials have already expired.
    """
    if visible_to.until is None:
        return None
    seconds = visible_to.seconds_left(utc_now().timestamp())
    if not seconds:
        raise TokenExpiredError
    return asyncio.get_running_loop().call_later(seconds, subscription.close)
