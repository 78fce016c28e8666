"""One run: feed the plan in while the schedule strikes, then wait until it is calm."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer

from services.status.store import FileStore
from shared.events import new_file_id
from shared.messaging import create_topics
from shared.settings import Settings
from tests.chaos.evidence import Evidence, Feed, Origin, collect, group_lag
from tests.chaos.faults import Fault, Hit
from tests.chaos.plan import Plan, PlannedFile
from tests.chaos.pods import Pods
from tests.chaos.poison import POISONS
from tests.chaos.stream_promises import states_told_wrong
from tests.chaos.views import Views, look
from tests.chaos.watching import watchers

AT_ONCE = 8
"""Uploads on their way at the same time."""

PATIENCE = 240.0
"""Seconds in which what is turned away is sent again: twice as long as Kafka is away."""

TURNED_AWAY = (503, 507)
"""Answers to an upload that is welcome later: Kafka or MongoDB is away, or a disk is full."""

TELLING = 30.0
"""Seconds in which the last states reach the watchers."""

Strike = Callable[[Fault], Awaitable[Hit]]


async def run(
    settings: Settings,
    folder: Path,
    plan: Plan,
    schedule: tuple[Fault, ...],
    *,
    pods: int,
    calm: float,
    strike_part: Strike | None = None,
) -> Evidence:
    """Carry out a plan and a schedule.

    Args:
        calm: seconds after the last fault in which all must have ended.
        strike_part: carries out the faults that are not about our own processes.
    """
    await create_topics(settings)
    installation = Pods(settings, folder)
    feed = Feed()
    try:
        await installation.start(pods)
        async with minded(installation), watchers(installation.status_url) as observations:
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                striking = group.create_task(
                    _strike_all(schedule, began, installation, strike_part or installation.suffer)
                )
                group.create_task(_upload_all(plan, began, installation, feed))
                group.create_task(_spoil(settings, plan, began, feed))
            await _until_calm(settings, feed, seconds=calm)
            views, evidence = await asyncio.gather(
                _look(installation, feed),
                collect(
                    settings,
                    feed,
                    [*striking.result(), *installation.ended],
                    observations=observations,
                ),
            )
            evidence = replace(
                evidence, views=views, fallen=installation.fallen, logs=installation.logs
            )
            await _until_told(evidence)
            return evidence
    finally:
        await asyncio.to_thread(installation.stop)


@asynccontextmanager
async def minded(installation: Pods) -> AsyncIterator[None]:
    """Have what says why it ends started again for the time of a block."""
    minding = asyncio.create_task(installation.mind())
    try:
        yield
    finally:
        minding.cancel()
        await asyncio.wait({minding})


async def _strike_all(
    schedule: tuple[Fault, ...], began: float, installation: Pods, strike_part: Strike
) -> list[Hit]:
    async with asyncio.TaskGroup() as group:
        strikes = [
            group.create_task(_strike(fault, began, installation, strike_part))
            for fault in schedule
        ]
    return [strike.result() for strike in strikes]


async def _strike(fault: Fault, began: float, installation: Pods, strike_part: Strike) -> Hit:
    await _sleep_until(began + fault.at)
    return await (strike_part(fault) if fault.concerns_part else installation.suffer(fault))


async def _upload_all(plan: Plan, began: float, installation: Pods, feed: Feed) -> None:
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
            await _sleep_until(began + file.at)
            group.create_task(upload(file, http))


async def _upload(file: PlannedFile, http: httpx.AsyncClient) -> str:
    """Hand a file over; again while it is turned away. Returns its id."""
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
            why = repr(error)  # It ends, or is not there: the key makes another try harmless.
        else:
            if answer.status_code == 202:
                return str(answer.json()["file_id"])
            why = answer.text
            assert answer.status_code in TURNED_AWAY, why
        assert time.monotonic() < deadline, why
        await asyncio.sleep(1)


async def _is_unknown(file_id: str, status_url: str, http: httpx.AsyncClient) -> bool:
    """Whether the status service knows no file that upload has just accepted."""
    try:
        answer = await http.get(f"{status_url}/api/files/{file_id}")
    except httpx.TransportError:
        return False  # It was killed: who asks again is answered.
    return answer.status_code == 404


async def _spoil(settings: Settings, plan: Plan, began: float, feed: Feed) -> None:
    """Put records that cannot be read or stored among the others."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, acks="all", request_timeout_ms=int(PATIENCE * 1000)
    )
    await producer.start()
    try:
        for planned in sorted(plan.poison, key=lambda each: each.at):
            await _sleep_until(began + planned.at)
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


async def _until_calm(settings: Settings, feed: Feed, *, seconds: float) -> None:
    """Return when all files have ended and all records are finished, or the time is over.

    What has not ended by then is for the checker to tell.
    """
    store = FileStore(settings)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        statuses = await store.get_many(feed.accepted.keys())
        ended = sum(status.status.is_terminal for status in statuses.values())
        if ended == len(feed.accepted) and await group_lag(settings) == 0:
            break
        await asyncio.sleep(0.3)
    store.close()


async def _look(installation: Pods, feed: Feed) -> Views:
    lived_on = installation.addresses
    fresh = await installation.start_fresh_status()
    return await look(fresh, feed.accepted, services=lived_on, status=installation.status_url)


async def _until_told(evidence: Evidence) -> None:
    """Return when the watchers have been told everything, or had the time to be."""
    deadline = time.monotonic() + TELLING
    while any(states_told_wrong(evidence)) and time.monotonic() < deadline:
        await asyncio.sleep(1)


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
