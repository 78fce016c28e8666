"""Backups of the topics: `waybill topics export DIR` and `waybill topics import DIR`.

An archive has one gzipped file per partition, with one record per line:
`{"offset": 7, "time": 1764060000123, "key": "…", "value": "…", "headers": {"content-type": "…"}}`.
`time` is in milliseconds. `value64` replaces `value` if the value is not UTF-8, and holds it in
base64. Topic names have no prefix, so an archive can be imported into any installation.
`archive.json` holds the number of records and the committed offsets of the processors. After an
import, the processors resume there and repeat only files that were finished out of order.
"""

import argparse
import asyncio
import gzip
import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.errors import WaybillError
from shared.events.topics import TOPICS
from shared.kafka.connection import admin_client, kafka_options
from shared.kafka.log import open_log, read_range
from shared.kafka.messaging import PROCESSOR_GROUP, create_topics, group_name
from shared.kafka.topic_times import BROKER_TIME, PRODUCER_TIME, set_timestamp_type
from shared.settings import Settings
from shared.writing import write_file

FORMAT = 1

MANIFEST = "archive.json"

SETTLING = 0.2
"""Seconds between two checks whether Kafka has applied new settings."""

AT_ONCE = 500
"""Maximum records in flight to Kafka."""


class ArchiveError(WaybillError):
    """The archive or the target of the import is invalid."""


class Record(NamedTuple):
    """One record of an archive."""

    offset: int
    time: int
    key: str | None
    value: bytes | None
    headers: dict[str, str]

    def line(self) -> str:
        """Return the record as a line of the file."""
        document: dict[str, Any] = {"offset": self.offset, "time": self.time, "key": self.key}
        try:
            document["value"] = None if self.value is None else self.value.decode()
        except UnicodeDecodeError:
            document["value64"] = b64encode(self.value or b"").decode()
        return json.dumps(document | {"headers": self.headers}, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, line: str) -> "Record":
        """Parse a line of the file."""
        document = json.loads(line)
        text = document.get("value")
        value = None if text is None else text.encode()
        if "value64" in document:
            value = b64decode(document["value64"])
        return cls(
            document["offset"], document["time"], document["key"], value, document["headers"]
        )


async def export_topics(settings: Settings, folder: Path) -> int:
    """Write all topics, up to their current ends, to a folder.

    Of the consumer groups, only the processors' offsets are stored. All others read from the
    beginning.

    Returns:
        The number of records.

    Raises:
        ArchiveError: the folder already contains an archive.
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: Kafka has stopped responding.
    """
    if (folder / MANIFEST).exists():
        raise ArchiveError(f"{folder} already contains an archive; choose another folder.")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    async with open_log(settings, TOPICS, client_id="archive") as (consumer, partitions):
        # Read first: files that finish later are then processed again instead of being lost.
        committed = await _committed(settings, partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            name = _name(settings, partition)
            counts[name] = await _export(
                consumer, partition, begins[partition], ends[partition], _file(folder, name)
            )
    manifest = {
        "format": FORMAT,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": counts,
        "committed": {_name(settings, each): offset for each, offset in committed.items()},
    }
    write_file(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return sum(counts.values())


async def _export(
    consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int, path: Path
) -> int:
    written = 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as lines:
        async for each in read_range(consumer, partition, begin, end):
            key = None if each.key is None else each.key.decode(errors="replace")
            headers = {name: value.decode() for name, value in each.headers}
            record = Record(each.offset, each.timestamp, key, each.value, headers)
            lines.write(record.line())
            written += 1
    return written


async def import_topics(settings: Settings, folder: Path) -> int:
    """Publish the records of an archive to the topics, which must be empty.

    Returns:
        The number of records.

    Raises:
        ArchiveError: there is no archive, or a topic is not empty.
        UnavailableError: Kafka is unavailable.
    """
    manifest = _manifest(folder)
    await create_topics(settings)
    async with open_log(settings, TOPICS, client_id="archive") as (consumer, partitions):
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    filled = sorted({each.topic for each in partitions if ends[each] > begins[each]})
    if filled:
        raise ArchiveError(
            f"{', '.join(filled)} already contain records; import into an empty Kafka or use "
            "another WAYBILL_TOPIC_PREFIX."
        )
    # Otherwise the brokers would replace the records' times by the current time.
    await _set_timestamp_type(settings, PRODUCER_TIME)
    producer = AIOKafkaProducer(**kafka_options(settings), acks="all", enable_idempotence=True)
    finished: dict[TopicPartition, int] = {}
    try:
        await producer.start()
        for partition in partitions:
            name = _name(settings, partition)
            records = _records(_file(folder, name), manifest["records"].get(name, 0))
            committed = manifest["committed"].get(name, 0)
            finished[partition] = await _import(producer, partition, records, committed)
    finally:
        await producer.stop()
        await _set_timestamp_type(settings, BROKER_TIME)
    await _commit(settings, {each: count for each, count in finished.items() if count})
    return sum(manifest["records"].values())


async def _set_timestamp_type(settings: Settings, kind: str) -> None:
    """Set the timestamp type of all topics, and wait until Kafka has applied it."""
    async with admin_client(settings) as admin:
        while await set_timestamp_type(admin, settings, kind):  # noqa: ASYNC110 - Kafka has no event for it
            await asyncio.sleep(SETTLING)


async def _import(
    producer: AIOKafkaProducer,
    partition: TopicPartition,
    records: Iterator[Record],
    committed: int,
) -> int:
    """Import one partition and return the number of records below the committed offset."""
    finished = 0
    acknowledgements: list[asyncio.Future[Any]] = []
    for record in records:
        finished += record.offset < committed
        acknowledgements.append(
            await producer.send(
                partition.topic,
                record.value,
                key=None if record.key is None else record.key.encode(),
                partition=partition.partition,
                timestamp_ms=record.time,
                headers=[(key, value.encode()) for key, value in record.headers.items()],
            )
        )
        if len(acknowledgements) >= AT_ONCE:
            await asyncio.gather(*acknowledgements)
            acknowledgements.clear()
    await asyncio.gather(*acknowledgements)
    return finished


async def _committed(
    settings: Settings, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    async with admin_client(settings) as admin:
        committed = await admin.list_consumer_group_offsets(
            group_name(settings, PROCESSOR_GROUP), partitions=partitions
        )
    return {each: place.offset for each, place in committed.items() if place.offset > 0}


async def _commit(settings: Settings, offsets: dict[TopicPartition, int]) -> None:
    if not offsets:
        return
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        group_id=group_name(settings, PROCESSOR_GROUP),
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await consumer.stop()


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise ArchiveError(f"{folder} contains no archive: {MANIFEST} is missing.") from None
    if manifest["format"] != FORMAT:
        raise ArchiveError(
            f"The archive has format {manifest['format']}; this version reads format {FORMAT}."
        )
    return manifest


def _records(path: Path, count: int) -> Iterator[Record]:
    """Yield the records of one file.

    Raises:
        ArchiveError: the file is damaged or does not have `count` records.
    """
    found = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield Record.of(line)
                found += 1
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ArchiveError(f"{path} is damaged after {found} records: {error!r}") from error
    if found != count:
        raise ArchiveError(f"{path} has {found} records and should have {count}.")


def _name(settings: Settings, partition: TopicPartition) -> str:
    return f"{partition.topic.removeprefix(settings.topic_prefix)}-{partition.partition}"


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl.gz"


def main() -> None:
    """Run `python -m shared.kafka.archive` with `export DIR` or `import DIR`."""
    parser = argparse.ArgumentParser(
        prog="waybill topics", description="Export the topics to files, or import them."
    )
    parser.add_argument("command", choices=("export", "import"))
    parser.add_argument("folder", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    act = export_topics if arguments.command == "export" else import_topics
    try:
        count = asyncio.run(act(Settings(), arguments.folder))
    except (WaybillError, KafkaError, OSError) as error:
        sys.exit(f"{arguments.command} failed: {error}")
    sys.stdout.write(f"{arguments.command}ed {count} records\n")


if __name__ == "__main__":
    main()
