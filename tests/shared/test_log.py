"""Who reads a log leaves no consumer behind."""

import gc
import warnings

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from shared.log import open_partitions
from shared.settings import Settings
from waybill.local.ports import HOST, free_port


async def test_a_consumer_that_could_not_start_is_closed() -> None:
    away = Settings(kafka=f"{HOST}:{free_port()}")
    some = [TopicPartition("topic", 0)]
    # aiokafka warns of what was not closed when it is collected.
    with warnings.catch_warnings(record=True, category=ResourceWarning) as warned:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(KafkaConnectionError):
            async with open_partitions(away, some, client_id="test", wait_ms=1):
                pass
        gc.collect()
    assert [str(each.message) for each in warned if "Kafka" in str(each.message)] == []
