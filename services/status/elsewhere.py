"""Where else the hub looks for files, and when a subscription ends by itself: small ports."""

import asyncio
import time
from typing import Protocol

from services.status.access import Visibility
from services.status.projection import Status
from services.status.subscription import Subscription
from shared.accesserrors import TokenExpiredError


class Outbox(Protocol):
    """What the hub needs to know of the uploads that wait for Kafka."""

    @property
    def is_active(self) -> bool:
        """Whether files may be on their way from there to Kafka."""

    async def find(self, file_id: str) -> Status | None:
        """A file whose upload waits there."""


def close_at_end_of(
    visible_to: Visibility, subscription: Subscription
) -> asyncio.TimerHandle | None:
    """Have a subscription end when it is no longer known who subscribed.

    Raises:
        TokenExpiredError: that is not known now.
    """
    if visible_to.until is None:
        return None
    seconds = visible_to.seconds_left(time.time())
    if not seconds:
        raise TokenExpiredError
    return asyncio.get_running_loop().call_later(seconds, subscription.close)
