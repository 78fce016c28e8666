"""Feed a run with uploads, which are retried while they are rejected, and with poison records."""

import asyncio
import time

import httpx
from aiokafka import AIOKafkaProducer

from shared.events.events import new_file_id
from shared.settings import Settings
from tests.chaos.evidence import Feed, Origin
from tests.chaos.plan import Plan, PlannedFile
from tests.chaos.pods import Pods
from tests.chaos.poison import POISONS

AT_ONCE = 8
"""Concurrent uploads."""

PATIENCE = 240.0
"""Seconds for which rejected uploads are retried: twice as long as Kafka is away."""

RETRYABLE_STATUSES = (503, 507)
"""Status codes of uploads to retry: Kafka or MongoDB is away, or a disk is full."""


async def upload_all(plan: Plan, began: float, installation: Pods, feed: Feed) -> None:
    """Upload every planned file at its time, and query its status at once."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def upload(file: PlannedFile, http: httpx.AsyncClient) -> None:
        async with at_once:
            file_id = await _upload(file, http)
        feed.accepted[file_id] = file
        if await _is_unknown(file_id, installation.status_url, http):
            feed.unknown.append(file_id)

    async with (
        httpx.AsyncClient(base_url=installation.upload_url, timeout=30) as http,
        asyncio.TaskGroup() as group,
    ):
        for file in plan.files:
            await sleep_until(began + file.at)
            group.create_task(upload(file, http))


async def _upload(file: PlannedFile, http: httpx.AsyncClient) -> str:
    """Upload a file, retrying while it is rejected. Return its id."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = await http.post(
                "/api/files/upload",
                files={"file": (file.name, file.content, file.content_type)},
                params={"label.group": file.group},
                headers={"Idempotency-Key": f"chaos-{file.number}"},
            )
        except httpx.TransportError as error:
            why = repr(error)  # The service is down; the idempotency key makes a retry safe.
        else:
            if answer.status_code == 202:
                return str(answer.json()["file_id"])
            why = answer.text
            assert answer.status_code in RETRYABLE_STATUSES, why
        assert time.monotonic() < deadline, why
        await asyncio.sleep(1)


async def _is_unknown(file_id: str, status_url: str, http: httpx.AsyncClient) -> bool:
    """Return True if the status service does not know a file that upload has just accepted."""
    try:
        answer = await http.get(f"{status_url}/api/files/{file_id}")
    except httpx.TransportError:
        return False  # It was killed; a client that retries gets an answer.
    return answer.status_code == 404


async def put_poison(settings: Settings, plan: Plan, began: float, feed: Feed) -> None:
    """Publish records that cannot be read or stored among the others."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, acks="all", request_timeout_ms=int(PATIENCE * 1000)
    )
    await producer.start()
    try:
        for planned in sorted(plan.poison, key=lambda each: each.at):
            await sleep_until(began + planned.at)
            latest = next(reversed(feed.accepted), None) if planned.strikes_file else None
            file_id = latest or new_file_id()
            sent = await producer.send_and_wait(
                settings.topic_prefix + planned.topic.name,
                POISONS[planned.what](file_id),
                key=file_id.encode(),
            )
            feed.unreadable.append(Origin(sent.topic, sent.partition, sent.offset))
    finally:
        await producer.stop()


async def sleep_until(moment: float) -> None:
    """Wait until a time of the monotonic clock."""
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
