"""Follow file outcomes for deduplication: failed, cancelled and deleted files no longer count.

At least once: group `deduplication`, from the beginning of the log. An offset is committed once all
records below it are applied to the blob store, where a repeat is harmless. The pods share the
partitions, and each pod reads what the others stored.
"""

from functools import partial

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from services.upload.intake.duplicates import Duplicates
from shared.background.supervision import RunningLoop
from shared.deadlines import blob_store_answers, joins_group, kafka_answers
from shared.events.events import FileCancelled, FileDeleted, FileFailed
from shared.events.reading import UnreadableEventError
from shared.events.topics import LIFECYCLE
from shared.kafka.connection import Answers, close_consumer, kafka_options
from shared.kafka.consuming import DeadLetterWriter, RecordHandler
from shared.kafka.messaging import SESSION_TIMEOUT_MS, group_name, read_record, topic_names
from shared.kafka.publishing import Publisher
from shared.settings import Settings

GROUP = "deduplication"

POLL_TIMEOUT_MS = 500
MAX_RECORDS = 2_000
"""Records of one poll. Few of them concern files that fail."""


class OutcomeFollower:
    """Consumes lifecycle events and updates the deduplication index."""

    def __init__(
        self, settings: Settings, duplicates: Duplicates, publisher: Publisher | None = None
    ) -> None:
        self._settings = settings
        self._duplicates = duplicates
        letters = DeadLetterWriter(publisher, source="/upload")
        self._handler = RecordHandler(GROUP, letters)

    async def follow(self, loop: RunningLoop) -> None:
        """Consume until cancelled.

        Raises:
            KafkaError, UnavailableError: Kafka or the blob store does not answer.
        """
        consumer = AIOKafkaConsumer(
            **kafka_options(self._settings),
            client_id="upload-endings",
            group_id=group_name(self._settings, GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 3,
        )
        consumer.subscribe(topic_names(self._settings, (LIFECYCLE,)))
        try:
            # If cancelled while joining, the consumer would stay an idle member of the group.
            async with joins_group(GROUP):
                await consumer.start()
            answers = Answers(consumer)
            while True:
                batches = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_RECORDS
                )
                for records in batches.values():
                    for record in records:
                        await self._handler.handle(record, partial(self._apply, record))
                if batches:
                    async with kafka_answers("the commit of how files end"):
                        await consumer.commit()
                if answers.check(brought=bool(batches)):
                    loop.succeeded()
        finally:
            await close_consumer(consumer)

    async def _apply(self, record: ConsumerRecord) -> None:
        try:
            logged = read_record(record)
        except UnreadableEventError:
            return  # The projector writes the dead letter.
        match logged and logged.event:
            case FileFailed() | FileCancelled() as event:
                async with blob_store_answers():
                    await self._duplicates.ended(event.file_id)
            case FileDeleted() as event:
                async with blob_store_answers():
                    await self._duplicates.forget(event.file_id)
