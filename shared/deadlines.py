"""Deadlines for every request to Kafka or the blob store.

A frozen broker (SIGSTOP, a stalled disk, a live migration) keeps its connections open and sends no
response. aiokafka then waits for as long as the kernel does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError, UnavailableError

KAFKA_ANSWERS_WITHIN = 15.0
"""Seconds for one request to Kafka. A live broker responds in milliseconds, or in a few seconds
while a partition changes its leader or a group rebalances."""

JOINS_WITHIN = 30.0
"""Seconds to join a consumer group. A rebalance waits one session timeout (6 s) for members that
died, and another rebalance may follow."""

CLOSES_WITHIN = 3.0
"""Seconds to leave a group and close connections cleanly; after that they are dropped. Committed
offsets are already safe, and Kafka detects by itself that a client has gone."""

BLOB_STORE_ANSWERS_WITHIN = 60.0
"""Seconds for one request of a background loop to the blob store. Requests to an object store time
out after half a minute (`objectstore.py`); a directory on a hung network mount never does."""


@asynccontextmanager
async def within(seconds: float, error: UnavailableError) -> AsyncIterator[None]:
    """Cancel the block after a deadline.

    Raises:
        UnavailableError: `error`, if the block took longer than `seconds`.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as late:
        if limit.expired():
            raise error from late
        raise


def kafka_answers(request: str) -> AbstractAsyncContextManager[None]:
    """Set the deadline for a block that makes one request to Kafka.

    Args:
        request: description of the request, for the error message.

    Raises:
        KafkaUnavailableError: Kafka did not respond within `KAFKA_ANSWERS_WITHIN` seconds.
    """
    seconds = KAFKA_ANSWERS_WITHIN
    return within(
        seconds, KafkaUnavailableError(f"Kafka did not answer within {seconds:g} s: {request}")
    )


def joins_group(group: str) -> AbstractAsyncContextManager[None]:
    """Set the deadline for a block in which a consumer joins its group.

    Raises:
        KafkaUnavailableError: the consumer did not join within `JOINS_WITHIN` seconds.
    """
    seconds = JOINS_WITHIN
    return within(
        seconds, KafkaUnavailableError(f"the group {group} was not joined within {seconds:g} s")
    )


def blob_store_answers() -> AbstractAsyncContextManager[None]:
    """Set the deadline for a block that makes one request to the blob store.

    Raises:
        BlobStoreUnavailableError: no response came within `BLOB_STORE_ANSWERS_WITHIN` seconds.
    """
    return within(BLOB_STORE_ANSWERS_WITHIN, BlobStoreUnavailableError())
