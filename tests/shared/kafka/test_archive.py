"""Topics are exported to files and imported again, on a real Kafka."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.events.events import new_file_id
from shared.events.topics import TOPICS, UPLOADED
from shared.kafka.archive import MANIFEST, ArchiveError, export_topics, import_topics
from shared.kafka.connection import admin_client
from shared.kafka.log import open_log, read_range
from shared.kafka.messaging import group_name
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.builders import about, completed, processing, uploaded


@pytest.fixture
def elsewhere(settings: Settings) -> Settings:
    """Return the settings of another installation on the same Kafka."""
    return settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}new."})


async def records_of(settings: Settings) -> dict[tuple[str, int], list[tuple[Any, ...]]]:
    """Return the records of the partitions without their offsets."""
    found: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    async with open_log(settings, TOPICS, client_id="tests") as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
        for each in partitions:
            place = (each.topic.removeprefix(settings.topic_prefix), each.partition)
            found[place] = [facts(r) async for r in read_range(consumer, each, 0, ends[each])]
    return found


def facts(record: ConsumerRecord) -> tuple[Any, ...]:
    return record.key, record.value, record.timestamp, record.headers


async def finish(settings: Settings, partition: TopicPartition, offset: int) -> None:
    """Commit an offset for the processors."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        group_id=group_name(settings, "processor"),
        enable_auto_commit=False,  # Stopping it would commit again.
    )
    await consumer.start()
    consumer.assign([partition])
    await consumer.commit({partition: offset})
    await consumer.stop()


async def committed(settings: Settings) -> dict[TopicPartition, int]:
    async with admin_client(settings) as admin:
        places = await admin.list_consumer_group_offsets(group_name(settings, "processor"))
    return {each: place.offset for each, place in places.items() if place.offset > 0}


async def test_an_archive_gives_back_every_record_and_how_far_the_processors_were(
    settings: Settings, elsewhere: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    file_id = new_file_id()
    for _ in range(3):
        await publisher.publish(about(file_id, uploaded()))
    for event in (processing(), completed()):
        await publisher.publish(about(new_file_id(), event))
    topic = settings.topic_prefix + UPLOADED.name
    await publisher.put_back(topic, file_id, b"\xff no UTF-8")
    await publisher.forget(file_id, UPLOADED)
    before = await records_of(settings)
    ((_, number),) = [place for place, records in before.items() if len(records) == 5]
    await finish(settings, TopicPartition(topic, number), 2)

    assert await export_topics(settings, tmp_path) == 7
    assert await import_topics(elsewhere, tmp_path) == 7
    assert await records_of(elsewhere) == before
    there = TopicPartition(elsewhere.topic_prefix + UPLOADED.name, number)
    assert await committed(elsewhere) == {there: 2}


async def test_an_archive_is_neither_overwritten_nor_imported_twice(
    settings: Settings, elsewhere: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    await publisher.publish(about(new_file_id(), uploaded()))
    await export_topics(settings, tmp_path)
    with pytest.raises(ArchiveError, match="already contains an archive"):
        await export_topics(settings, tmp_path)
    await import_topics(elsewhere, tmp_path)
    with pytest.raises(ArchiveError, match=r"file\.uploaded.* already contain records"):
        await import_topics(elsewhere, tmp_path)


async def test_a_folder_without_an_archive_and_a_damaged_one_are_refused(
    settings: Settings, elsewhere: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match=f"{MANIFEST} is missing"):
        await import_topics(elsewhere, tmp_path)
    await publisher.publish(about(new_file_id(), uploaded()))
    await export_topics(settings, tmp_path)
    (file,) = [each for each in tmp_path.glob("*.gz") if gzip.decompress(each.read_bytes())]
    file.write_bytes(gzip.compress(b""))
    with pytest.raises(ArchiveError, match="has 0 records and should have 1"):
        await import_topics(elsewhere, tmp_path)
