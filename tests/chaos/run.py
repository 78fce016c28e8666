"""One run: feed the plan while faults strike, then wait until everything has finished."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from services.status.store.store import FileStore
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.chaos.evidence import Evidence, Feed, collect, group_lag
from tests.chaos.faults import Fault, Hit
from tests.chaos.feeding import put_poison, sleep_until, upload_all
from tests.chaos.plan import Plan
from tests.chaos.pods import Pods
from tests.chaos.stream_promises import states_told_wrong
from tests.chaos.views import Views, look
from tests.chaos.watching import watchers

DELIVERY_TIMEOUT = 30.0
"""Seconds for the last states to reach the watchers."""

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
    """Execute a plan and a schedule.

    Args:
        calm: seconds after the last fault in which everything must finish.
        strike_part: injects the faults that do not affect Waybill's own processes.
    """
    await create_topics(settings)
    installation = Pods(settings, folder)
    feed = Feed()
    try:
        await installation.start(pods)
        async with (
            restarting_ended(installation),
            watchers(installation.status_url) as observations,
        ):
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                striking = group.create_task(
                    _strike_all(schedule, began, installation, strike_part or installation.inject)
                )
                group.create_task(upload_all(plan, began, installation, feed))
                group.create_task(put_poison(settings, plan, began, feed))
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
            await _until_delivered(evidence)
            return evidence
    finally:
        await asyncio.to_thread(installation.stop)


@asynccontextmanager
async def restarting_ended(installation: Pods) -> AsyncIterator[None]:
    """Restart processes that log why they end, for the duration of the block."""
    restarting = asyncio.create_task(installation.restart_ended())
    try:
        yield
    finally:
        restarting.cancel()
        await asyncio.wait({restarting})


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
    await sleep_until(began + fault.at)
    return await (strike_part(fault) if fault.concerns_part else installation.inject(fault))


async def _until_calm(settings: Settings, feed: Feed, *, seconds: float) -> None:
    """Return when all files have ended and all records are finished, or time is up.

    The checker reports what has not finished.
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


async def _until_delivered(evidence: Evidence) -> None:
    """Return when the watchers have received everything, or time is up."""
    deadline = time.monotonic() + DELIVERY_TIMEOUT
    while any(states_told_wrong(evidence)) and time.monotonic() < deadline:
        await asyncio.sleep(1)
