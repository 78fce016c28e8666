"""What waits in the blob store for Kafka: events of uploads, and commands about these files.

The upload service keeps the event of an upload that Kafka does not take in time, and publishes it
as soon as Kafka answers. Until then the status service finds the file here. A command about such a
file is kept beside it, one object for each, and is published before the upload where possible, so
that no processor begins what nobody wants any more. All of it may be published twice: a repeat has
the same id.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.deadlines import blob_store_answers, kafka_answers
from shared.errors import WaybillError
from shared.events.events import AnyEvent, Event, FileUploaded
from shared.events.reading import UnreadableEventError, parse
from shared.kafka.consuming import UNAVAILABLE, note_error
from shared.kafka.publishing import Publisher
from shared.telemetry import OUTBOX_DAMAGED

log = logging.getLogger(__name__)

UPLOADS = "outbox"
COMMANDS = "outbox-commands"


class DamagedUploadError(WaybillError):
    """The file was accepted, but what was kept of its upload cannot be read. Ask an operator."""

    code = "damaged_upload"
    status = 500


def upload_key(file_id: str) -> str:
    """Where the event of an upload waits."""
    return f"{UPLOADS}/{file_id}.json"


def file_id_of(key: str) -> str:
    """The file whose upload waits under this key."""
    return key.removeprefix(f"{UPLOADS}/").removesuffix(".json")


def is_file_id(text: str) -> bool:
    """Whether this may be the id of a file of ours, and so part of a key."""
    try:
        parsed = UUID(text)
    except ValueError:
        return False
    return parsed.version == 7 and str(parsed) == text


async def waiting_upload(blobs: BlobStore, file_id: str) -> FileUploaded | None:
    """The upload of a file, if it waits here.

    Raises:
        BlobStoreUnavailableError: the blob store does not answer.
        DamagedUploadError: it waits here, and cannot be read.
    """
    try:
        content = await blobs.get(upload_key(file_id))
    except BlobMissingError:
        return None
    return read_upload(content, file_id)


def read_upload(content: bytes, file_id: str) -> FileUploaded:
    """The upload that was kept for a file.

    Raises:
        DamagedUploadError: it is not the upload of this file, or of another version.
    """
    key = upload_key(file_id)
    try:
        event = parse(content)
    except UnreadableEventError as error:
        raise _damaged(key, str(error)) from error
    if not isinstance(event, FileUploaded) or event.file_id != file_id:
        raise _damaged(key, "it is not the upload of this file")
    return event


def _damaged(key: str, reason: str) -> DamagedUploadError:
    OUTBOX_DAMAGED.inc()
    log.error("%s cannot be read, and stays: %s", key, reason)
    return DamagedUploadError()


async def keep_command(
    blobs: BlobStore, file_id: str, command_id: str, events: Sequence[Event]
) -> None:
    """Keep the events of a command about a file whose upload waits; in their order.

    Raises:
        BlobStoreUnavailableError: the blob store does not answer; it may be kept all the same.
    """
    lines = b"\n".join(event.to_json() for event in events)
    await blobs.put(f"{COMMANDS}/{file_id}/{command_id}.json", lines)


async def waiting_commands(blobs: BlobStore, file_id: str) -> list[AnyEvent]:
    """The events of the commands about a file that wait here, in their order.

    Of a command that cannot be read, this one knows nothing; the relay does not pass over it.

    Raises:
        BlobStoreUnavailableError: the blob store does not answer.
    """
    keys = await blobs.keys(f"{COMMANDS}/{file_id}/")  # Ids of commands are sorted by time.
    events: list[AnyEvent] = []
    for key in keys:
        try:
            events += await _read(blobs, key)
        except UnreadableEventError as error:
            OUTBOX_DAMAGED.inc()
            log.error("%s cannot be read, and stays: %s", key, error)
    return events


async def relay_commands(blobs: BlobStore, publisher: Publisher) -> int:
    """Publish the commands that wait; returns about how many files they were.

    A command that cannot be published, or not be read by this version, stays, and holds up those
    about the same file alone.

    Raises:
        BlobStoreUnavailableError, KafkaUnavailableError: what was not published goes on waiting.
    """
    of_files: dict[str, list[str]] = defaultdict(list)
    async with blob_store_answers():
        found = await blobs.keys(f"{COMMANDS}/")
    for key in found:
        of_files[key.split("/")[1]].append(key)
    for file_id, keys in of_files.items():
        try:
            for key in keys:
                async with blob_store_answers():
                    events = await _read(blobs, key)
                for event in events:
                    async with kafka_answers(f"to take a command about {file_id}"):
                        await publisher.publish(event)
                async with blob_store_answers():
                    await blobs.delete(key)
        except UNAVAILABLE:
            raise
        except Exception as error:
            note_error("outbox", error, f"the commands about {file_id}; they stay")
            continue
        log.info("published %d commands about %s that had waited for Kafka", len(keys), file_id)
    return len(of_files)


async def _read(blobs: BlobStore, key: str) -> list[AnyEvent]:
    """The events under a key; none if another pod has published them meanwhile.

    Raises:
        UnreadableEventError: a newer version wrote one of them.
    """
    try:
        content = await blobs.get(key)
    except BlobMissingError:
        return []
    return [event for line in content.splitlines() if (event := parse(line)) is not None]
