"""The delivery log: each webhook request and its response, kept for 30 days.

It is the only data in MongoDB that a replay does not restore.
"""

from datetime import timedelta

from pydantic import BaseModel

from services.status.store.store import FileStore, translated
from shared.events.events import Timestamp

KEPT_FOR = timedelta(days=30)


class Delivery(BaseModel):
    """One attempt to deliver a message."""

    webhook_id: str
    message_id: str
    file_id: str
    event: str
    attempt: int
    at: Timestamp
    took_ms: int
    status: int | None
    """HTTP status of the response; None if there was none."""
    error: str | None
    """The reason why there was no response."""
    next_attempt_at: Timestamp | None

    @property
    def arrived(self) -> bool:
        """True if the server accepted the message."""
        return self.status is not None and 200 <= self.status < 300


class Deliveries:
    """The latest deliveries of all webhooks.

    Every method raises `MongoUnavailableError` if MongoDB is unavailable.
    """

    def __init__(self, store: FileStore) -> None:
        self._deliveries = store.beside("deliveries")

    @translated
    async def prepare(self) -> None:
        """Create the indexes."""
        await self._deliveries.create_index([("webhook_id", 1), ("at", -1)])
        await self._deliveries.create_index("at", expireAfterSeconds=int(KEPT_FOR.total_seconds()))

    @translated
    async def add(self, delivery: Delivery) -> None:
        """Store a delivery."""
        await self._deliveries.insert_one(delivery.model_dump())

    @translated
    async def latest(self, webhook_id: str, limit: int) -> list[Delivery]:
        """Return the deliveries of a webhook, the latest first."""
        found = self._deliveries.find({"webhook_id": webhook_id}).sort("at", -1)
        return [Delivery.model_validate(each) async for each in found.limit(limit)]
