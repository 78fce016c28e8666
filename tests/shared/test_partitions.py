"""A file's events go to the partition where every Kafka client puts its key."""

from aiokafka.partitioner import DefaultPartitioner

from shared import messaging
from shared.events import new_file_id
from shared.topics import PARTITIONS


def test_a_key_goes_where_the_clients_own_partitioner_puts_it() -> None:
    numbers = list(range(PARTITIONS))
    keys = [new_file_id().encode() for _ in range(200)]
    theirs = [DefaultPartitioner()(key, numbers, numbers) for key in keys]
    assert [messaging._partition_of(key, numbers, numbers) for key in keys] == theirs
    assert set(theirs) == set(numbers)
