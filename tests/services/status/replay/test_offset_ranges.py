"""The log is read completely, whatever is fetched ahead."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from services.status.replay import offset_ranges as offset_ranges
from services.status.replay.offset_ranges import OffsetRange, read, whole_log
from services.status.settings import StatusSettings
from shared.events.events import new_file_id
from shared.events.topics import LIFECYCLE
from shared.kafka.connection import kafka_options
from shared.kafka.messaging import create_topics, topic_names
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish
from tests.support.builders import completed, processing, uploaded

FILES = 60

Place = tuple[str, int, int]


async def test_blocks_hold_each_record_once_and_say_what_is_left(
    publisher: Publisher, status_settings: StatusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(FILES):
        await publish(publisher, new_file_id(), uploaded(), processing(), completed())
    # Small limits, so that each partition is paused and resumed many times.
    for name, records in {"BLOCK": 4, "AHEAD": 2, "RUN": 1}.items():
        monkeypatch.setattr(offset_ranges, name, records)
    whole = await whole_log(status_settings)
    everything: set[Place] = {
        (each.topic, each.number, offset)
        for each in whole
        for offset in range(each.begin, each.end)
    }
    assert len(everything) == 3 * FILES

    taken: list[Place] = []
    left = {(each.topic, each.number): len(each) for each in whole}
    async for block in read(status_settings, whole):
        assert len(block.records) <= 4
        taken += [(each.topic, block.number, each.offset) for each in block.records]
        left |= {place: 0 for place in left if place[1] == block.number}
        left |= {(each.topic, each.number): len(each) for each in block.rest}
        assert len(taken) + sum(left.values()) == len(everything)
    assert len(taken) == len(everything)
    assert set(taken) == everything


async def test_a_stretch_is_read_whole_where_offsets_have_no_record(
    status_settings: StatusSettings,
) -> None:
    await create_topics(status_settings)
    (topic,) = topic_names(status_settings, [LIFECYCLE])
    # A transaction marker has an offset but no record, like an offset that compaction has emptied.
    producer = AIOKafkaProducer(**kafka_options(status_settings), transactional_id=topic)
    await producer.start()
    try:
        for _ in range(2):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"a record", partition=0)
    finally:
        await producer.stop()
    for begin, offsets in ((0, [0, 2]), (1, [2]), (3, [])):
        async with asyncio.timeout(10):
            read_from = read(status_settings, [OffsetRange(topic, 0, begin, 4)])
            (block,) = [block async for block in read_from]
        assert [record.offset for record in block.records] == offsets
        assert not block.rest
