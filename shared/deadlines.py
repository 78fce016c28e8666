"""Deadlines: no await of Kafka or the blob store without one.

A broker that is frozen (SIGSTOP, a stalled disk, a machine that is being moved) keeps its
connections open and answers nothing. aiokafka then waits for as long as the kernel does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError, UnavailableError

KAFKA_ANSWERS_WITHIN = 15.0
"""Seconds for one request to Kafka. A live broker takes milliseconds, and some seconds while a
partition changes its leader or a group rebalances."""

JOINS_WITHIN = 30.0
"""Seconds to join a consumer group: a rebalance waits for members that died, as long as a session
lasts (6 s), and another one may follow."""

CLOSES_WITHIN = 3.0
"""Seconds to leave a group and to close connections in order; after that they are dropped. What is
committed is safe already, and Kafka notices by itself that a client has gone."""

BLOB_STORE_ANSWERS_WITHIN = 60.0
"""Seconds for one request of a background loop to the blob store. An object store gives up by
itself after half a minute (`objectstore.py`); a directory on a hung network mount never does."""


@asynccontextmanager
async def within(seconds: float, error: UnavailableError) -> AsyncIterator[None]:
    """Give the block a deadline; what it waits for then is cancelled.

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
    """Give a block with one request to Kafka its deadline.

    Args:
        request: what is asked for, in words.

    Raises:
        KafkaUnavailableError: Kafka did not answer within `KAFKA_ANSWERS_WITHIN` seconds.
    """
    seconds = KAFKA_ANSWERS_WITHIN
    return within(
        seconds, KafkaUnavailableError(f"Kafka did not answer within {seconds:g} s: {request}")
    )


def joins_group(group: str) -> AbstractAsyncContextManager[None]:
    """Give a block in which a consumer joins its group its deadline.

    Raises:
        KafkaUnavailableError: it did not join within `JOINS_WITHIN` seconds.
    """
    seconds = JOINS_WITHIN
    return within(
        seconds, KafkaUnavailableError(f"the group {group} was not joined within {seconds:g} s")
    )


def blob_store_answers() -> AbstractAsyncContextManager[None]:
    """Give a block with one request to the blob store its deadline.

    Raises:
        BlobStoreUnavailableError: it did not answer within `BLOB_STORE_ANSWERS_WITHIN` seconds.
    """
    return within(BLOB_STORE_ANSWERS_WITHIN, BlobStoreUnavailableError())
