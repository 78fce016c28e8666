"""The courier: delivers webhook messages, with retries.

At least once: group `webhooks`, over the lifecycle topic and the delay tiers. An offset is
committed when every message of the records before it was accepted, scheduled for a retry, or
abandoned. While there is no webhook, nothing is consumed.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from services.status.commands.publish import SOURCE
from services.status.live.hub import Hub
from services.status.projection.history import MAX_HISTORY
from services.status.projection.projection import FileState, Status
from services.status.store.access import EVERYTHING
from services.status.webhooks.deliveries import Deliveries, Delivery
from services.status.webhooks.message import body, headers, message_id
from services.status.webhooks.registry import Webhook, Webhooks
from services.status.webhooks.schedule import Waiting, seconds_to_sleep, take_due
from shared.background.supervision import RunningLoop
from shared.deadlines import blob_store_answers, joins_group, kafka_answers
from shared.errors import ForbiddenAddressError, UnavailableError
from shared.events.events import (
    FileCancelled,
    FileCompleted,
    FileFailed,
    FileWebhookScheduled,
    WebhookScheduledData,
    utc_now,
)
from shared.events.reading import UnreadableEventError
from shared.events.topics import LIFECYCLE, RETRY_TIERS, tier_for
from shared.http.outbound import Outbound, OutboundError
from shared.kafka.connection import Answers, close_consumer, kafka_options
from shared.kafka.consuming import DeadLetterWriter, RecordHandler, note_error
from shared.kafka.log import end_offsets, offsets_at
from shared.kafka.messaging import SESSION_TIMEOUT_MS, group_name, read_record, topic_names
from shared.kafka.publishing import Publisher
from shared.settings import Settings

log = logging.getLogger(__name__)

GROUP = "webhooks"

TOPICS = (LIFECYCLE, *(tier.topic for tier in RETRY_TIERS))

ENDS = FileCompleted | FileFailed | FileCancelled

CourierEvent = ENDS | FileWebhookScheduled | None
"""An event that the courier handles; None for all other records."""

POLL_TIMEOUT_MS = 500
MAX_RECORDS = 200
"""Records of one poll, handled concurrently up to the limit of outbound connections."""

IDLE = 5.0
"""Seconds between two checks for a first webhook."""

RETRY_DELAY = 2.0
"""Seconds before a retry while Kafka, MongoDB or the blob store is unavailable."""

MAX_ATTEMPTS = 12
"""Attempts per message. Their waits double from 10 seconds to one hour and are jittered: 1.7 to 3.4
hours in all."""

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(hours=1)
"""Maximum waits before the second and the last attempts. The actual wait is random, at least half
of that."""

GONE = 410

UPLOAD_TIMEOUT = 10.0
"""Seconds to wait for the upload event of a file that has ended. It names the file's owner."""


class ProcessingCancelledError(Exception):
    """The task of a partition was cancelled, although the courier did not request it."""


class Courier(ConsumerRebalanceListener):  # type: ignore[misc]
    """Delivers the messages of webhooks."""

    def __init__(
        self,
        *,
        settings: Settings,
        hub: Hub,
        webhooks: Webhooks,
        deliveries: Deliveries,
        outbound: Outbound,
        publisher: Publisher,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._webhooks = webhooks
        self._deliveries = deliveries
        self._outbound = outbound
        self._publisher = publisher
        self._consumer: AIOKafkaConsumer | None = None
        self._in_progress: dict[TopicPartition, asyncio.Task[None]] = {}
        self._handler = RecordHandler(GROUP, DeadLetterWriter(publisher, source="/webhooks"))

    async def run(self, loop: RunningLoop) -> None:
        """Deliver messages until cancelled.

        Raises:
            KafkaError, UnavailableError: Kafka, MongoDB or the blob store is unavailable.
        """
        while True:
            if await self._all_webhooks():
                await self._deliveries.prepare()
                await self._consume(loop)
            loop.succeeded()
            await asyncio.sleep(IDLE)

    async def _all_webhooks(self) -> dict[str, Webhook]:
        async with blob_store_answers():
            return await self._webhooks.all()

    async def _consume(self, loop: RunningLoop) -> None:
        consumer = AIOKafkaConsumer(
            **kafka_options(self._settings),
            client_id="webhooks",
            group_id=group_name(self._settings, GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 3,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )
        self._consumer = consumer
        consumer.subscribe(topic_names(self._settings, TOPICS), listener=self)
        try:
            # Without this, a start that is cancelled while joining the group would leave an idle
            # member behind.
            async with joins_group(GROUP):
                await consumer.start()
            answers = Answers(consumer)
            while await self._all_webhooks():
                batches = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_RECORDS
                )
                self._check_in_progress()
                for partition, records in batches.items():
                    consumer.pause(partition)
                    self._in_progress[partition] = asyncio.create_task(
                        self._process_records(consumer, partition, records)
                    )
                # Partitions that wait for a due time are paused, so nothing is fetched from them.
                if answers.check(brought=self._in_progress.keys() >= consumer.assignment()):
                    loop.succeeded()
        finally:
            await self._stop(set(self._in_progress))
            await close_consumer(consumer)

    def _check_in_progress(self) -> None:
        """Remove partitions whose records are finished.

        Raises:
            KafkaError, KafkaUnavailableError: a commit failed.
            ProcessingCancelledError: a library cancelled the task of a partition.
        """
        for partition, task in list(self._in_progress.items()):
            if task.done():
                del self._in_progress[partition]
                if task.cancelled():
                    raise ProcessingCancelledError(f"the task of {partition} was cancelled")
                task.result()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Stop working on these partitions. Another pod resumes from the last commit."""
        await self._stop(set(revoked))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Seek to the last commit, but not to before the creation of the oldest webhook."""
        known = await self._all_webhooks()
        consumer = self._consumer
        if not (assigned and known and consumer):
            return
        oldest = min(each.created_at for each in known.values())
        found = await offsets_at(consumer, assigned, int(oldest.timestamp() * 1000))
        ends = await end_offsets(consumer, assigned)
        for partition in assigned:
            first = found.get(partition)
            begin = first.offset if first else ends[partition]
            async with kafka_answers("the committed offsets of the webhooks group"):
                committed = await consumer.committed(partition)
            consumer.seek(partition, max(begin, committed or 0))

    async def _stop(self, partitions: set[TopicPartition]) -> None:
        tasks = [self._in_progress.pop(each) for each in partitions if each in self._in_progress]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _process_records(
        self,
        consumer: AIOKafkaConsumer,
        partition: TopicPartition,
        records: Sequence[ConsumerRecord],
    ) -> None:
        """Handle the records of one partition in order, each when it is due."""
        of_offset = {record.offset: record for record in records}
        waiting = deque(
            Waiting(_due_at(event), record.offset, event) for record, event in _read(records)
        )
        while waiting:
            now = utc_now()
            if due := take_due(waiting, now):
                await asyncio.gather(
                    *(self._handle_record(of_offset[each.offset], each.event) for each in due)
                )
                async with kafka_answers("the commit of the webhooks group"):
                    await consumer.commit({partition: due[-1].offset + 1})
            else:
                await asyncio.sleep(seconds_to_sleep(waiting[0].due_at, now))
        consumer.resume(partition)

    async def _handle_record(self, record: ConsumerRecord, event: CourierEvent) -> None:
        """Handle one record until it succeeds. It blocks only its own partition."""
        await self._handler.handle(record, partial(self._handle_event, event))

    async def _handle_event(self, event: CourierEvent) -> None:
        known = await self._webhooks.all()
        if isinstance(event, FileWebhookScheduled):
            if (webhook := known.get(event.data.webhook_id)) is not None:
                await self._deliver(webhook, event)
        elif event is not None:
            state = FileState(event.type.removeprefix("file."))
            asked = [each for each in known.values() if state in each.states]
            status = await self._status_of(event) if asked else None
            if status is not None and not _is_superseded(event, status):
                wanted = [each for each in asked if each.wants(status, event.time)]
                await asyncio.gather(
                    *(self._deliver(each, _first_attempt(each, event)) for each in wanted)
                )

    async def _status_of(self, event: ENDS) -> Status | None:
        """Return the status of a file once its owner and the end that counts are known."""
        file_id = event.file_id
        clock = asyncio.get_running_loop().time
        deadline = clock() + UPLOAD_TIMEOUT
        while clock() < deadline:
            current = await self._hub.current(file_id, EVERYTHING)
            if current is not None and _is_settled(current.status, event):
                return None if current.status.deleted_at is not None else current.status
            await asyncio.sleep(0.2)
        log.warning("%s has ended, but its upload event is missing: no webhook is sent", file_id)
        return None

    async def _deliver(self, webhook: Webhook, event: FileWebhookScheduled) -> None:
        """Make one attempt. A message that is not accepted is scheduled again, or abandoned."""
        if webhook.disabled:
            return
        now, began = utc_now(), time.monotonic()
        status = error = None
        try:
            signed = headers(event, webhook.signing(now), now)
            status = await self._outbound.post(webhook.url, body(event), signed)
        except (OutboundError, ForbiddenAddressError) as failure:
            error = failure.detail
        delivery = Delivery(
            webhook_id=webhook.id,
            message_id=message_id(event),
            file_id=event.file_id,
            event=event.data.event,
            attempt=event.data.attempt,
            at=now,
            took_ms=round((time.monotonic() - began) * 1000),
            status=status,
            error=error,
            next_attempt_at=None,
        )
        if status == GONE:
            await self._webhooks.change(webhook.model_copy(update={"disabled": True}))
        elif not delivery.arrived and event.data.attempt < MAX_ATTEMPTS:
            delivery.next_attempt_at = await self._schedule(event)
        try:
            await self._deliveries.add(delivery)
        except UnavailableError as unavailable:  # A second delivery would be worse.
            log.warning("a delivery is missing from the delivery log: %s", unavailable)
        except Exception as unforeseen:
            note_error(GROUP, unforeseen, f"the delivery log, {event.file_id}")

    async def _schedule(self, event: FileWebhookScheduled) -> datetime:
        """Publish the next attempt to a delay tier; return its due time."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (event.data.attempt - 1))
        wait = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        due_at: datetime = utc_now() + wait
        data = event.data.model_copy(update={"attempt": event.data.attempt + 1, "due_at": due_at})
        again = FileWebhookScheduled.of(event.file_id, data, source=SOURCE)
        await self._publisher.publish(again, tier_for(wait).topic)
        return due_at


def _read(
    records: Sequence[ConsumerRecord],
) -> list[tuple[ConsumerRecord, ENDS | FileWebhookScheduled | None]]:
    """Return the records, each with its event; None if the courier does not handle the event."""
    found = []
    for record in records:
        try:
            logged = read_record(record)
        except UnreadableEventError:
            logged = None  # The projector or the processor dead-letters it.
        event = logged.event if logged else None
        found.append((record, event if isinstance(event, ENDS | FileWebhookScheduled) else None))
    return found


def _is_settled(status: Status, event: ENDS) -> bool:
    """Return True if the status names the file's owner and contains this end."""
    history = status.history
    is_known = any(line.id == event.id for line in history) or len(history) >= MAX_HISTORY
    return status.created_at is not None and (is_known or status.deleted_at is not None)


def _is_superseded(event: ENDS, status: Status) -> bool:
    """Return True if the run had already ended: a webhook receives one end per run."""
    return any(line.superseded for line in status.history if line.id == event.id)


def _due_at(event: ENDS | FileWebhookScheduled | None) -> datetime:
    return event.data.due_at if isinstance(event, FileWebhookScheduled) else utc_now()


def _first_attempt(webhook: Webhook, event: ENDS) -> FileWebhookScheduled:
    """Return the first attempt to deliver an event to a webhook."""
    data = WebhookScheduledData(
        run=event.data.run,
        attempt=1,
        webhook_id=webhook.id,
        event=event.type.value,
        occurred_at=event.time,
        error=event.data.error if isinstance(event, FileFailed) else None,
        due_at=utc_now(),
    )
    return FileWebhookScheduled.of(event.file_id, data, source=SOURCE)
