"""A file's events go to the partition that every Kafka client computes from its id."""

import asyncio

from aiokafka.partitioner import DefaultPartitioner

from shared.events.events import new_file_id
from shared.events.facts import reader_key
from shared.events.topics import ACCESS, PARTITIONS, UPLOADED
from shared.kafka import publishing
from shared.kafka.log import open_log
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.builders import about, shared, uploaded


def test_a_key_goes_where_the_clients_own_partitioner_puts_it() -> None:
    numbers = list(range(PARTITIONS))
    keys = [new_file_id().encode() for _ in range(200)]
    theirs = [DefaultPartitioner()(key, numbers, numbers) for key in keys]
    assert [publishing._partition_of(key, numbers, numbers) for key in keys] == theirs
    assert set(theirs) == set(numbers)


async def test_what_tells_of_a_reader_stands_beside_the_other_events_of_its_file(
    settings: Settings, publisher: Publisher
) -> None:
    ids = [new_file_id() for _ in range(20)]
    for file_id in ids:
        await publisher.publish(about(file_id, uploaded()))
        await publisher.publish(about(file_id, shared("bob")))
        key = f"{file_id}:{reader_key('bob')}"
        await publisher.put_back(settings.topic_prefix + ACCESS.name, key, b"?")
        await publisher.forget(file_id, ACCESS, reader_key("bob"))
    places: dict[str, set[tuple[str, int]]] = {}
    async with open_log(settings, (UPLOADED, ACCESS), client_id="tests") as (consumer, partitions):
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(20):
            for _ in range(4 * len(ids)):
                record = await consumer.getone()
                file_id, _, part = record.key.decode().partition(":")
                places.setdefault(file_id, set()).add((part, record.partition))
    assert places.keys() == set(ids)
    for placed in places.values():
        assert {part for part, _ in placed} == {"", reader_key("bob")}
        assert len({number for _, number in placed}) == 1
