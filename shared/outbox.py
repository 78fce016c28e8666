"""The outbox in the blob store: upload events and commands that wait for Kafka.

The upload service stores an upload event that Kafka does not accept in time, and publishes it once
Kafka is available again. Until then the status service finds the file here. A command about such a
file is stored as an object of its own. It is published before the upload where possible, so that no
processor starts cancelled work. Events may be published twice: a repeat has the same id.
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
    """The file was accepted, but its stored upload event is unreadable. Ask an operator."""

    code = "damaged_upload"
    status = 500


def upload_key(file_id: str) -> str:
    """Return the key of the object that holds an upload event."""
    return f"{UPLOADS}/{file_id}.json"


def file_id_of(key: str) -> str:
    """Return the id of the file whose upload event is stored under this key."""
    return key.removeprefix(f"{UPLOADS}/").removesuffix(".json")


def is_file_id(text: str) -> bool:
    """Return True if a text has the form of a file id, and so may be part of a key."""
    try:
        parsed = UUID(text)
    except ValueError:
        return False
    return parsed.version == 7 and str(parsed) == text


async def waiting_upload(blobs: BlobStore, file_id: str) -> FileUploaded | None:
    """Return the upload event of a file, or None if the outbox has none.

    Raises:
        BlobStoreUnavailableError: the blob store is unavailable.
        DamagedUploadError: the stored event is unreadable.
    """
    try:
        content = await blobs.get(upload_key(file_id))
    except BlobMissingError:
        return None
    return read_upload(content, file_id)


def read_upload(content: bytes, file_id: str) -> FileUploaded:
    """Parse the stored upload event of a file.

    Raises:
        DamagedUploadError: the content is unreadable, has an unknown version or is the event of
            another file.
    """
    key = upload_key(file_id)
    try:
        event = parse(content)
    except UnreadableEventError as error:
        raise _damaged(key, str(error)) from error
    if not isinstance(event, FileUploaded) or event.file_id != file_id:
        raise _damaged(key, "it is not the upload event of this file")
    return event


def _damaged(key: str, reason: str) -> DamagedUploadError:
    OUTBOX_DAMAGED.inc()
    log.error("%s is unreadable and is kept: %s", key, reason)
    return DamagedUploadError()


async def keep_command(
    blobs: BlobStore, file_id: str, command_id: str, events: Sequence[Event]
) -> None:
    """Store the events of a command, in order, for a file whose upload event is in the outbox.

    Raises:
        BlobStoreUnavailableError: the blob store is unavailable; the command may be stored anyway.
    """
    lines = b"\n".join(event.to_json() for event in events)
    await blobs.put(f"{COMMANDS}/{file_id}/{command_id}.json", lines)


async def waiting_commands(blobs: BlobStore, file_id: str) -> list[AnyEvent]:
    """Return the events of the stored commands about a file, in order.

    Unreadable commands are left out here; `relay_commands` does not skip them.

    Raises:
        BlobStoreUnavailableError: the blob store is unavailable.
    """
    keys = await blobs.keys(f"{COMMANDS}/{file_id}/")  # Command ids sort by time.
    events: list[AnyEvent] = []
    for key in keys:
        try:
            events += await _read(blobs, key)
        except UnreadableEventError as error:
            OUTBOX_DAMAGED.inc()
            log.error("%s is unreadable and is kept: %s", key, error)
    return events


async def relay_commands(blobs: BlobStore, publisher: Publisher) -> int:
    """Publish the stored commands and return the number of files that they concern.

    A command that is unreadable or cannot be published stays in the outbox. It blocks only later
    commands about the same file.

    Raises:
        BlobStoreUnavailableError, KafkaUnavailableError: unpublished commands stay in the outbox.
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
                    async with kafka_answers(f"publishing a command about {file_id}"):
                        await publisher.publish(event)
                async with blob_store_answers():
                    await blobs.delete(key)
        except UNAVAILABLE:
            raise
        except Exception as error:
            note_error("outbox", error, f"the commands about {file_id}; they are kept")
            continue
        log.info("published %d commands about %s from the outbox", len(keys), file_id)
    return len(of_files)


async def _read(blobs: BlobStore, key: str) -> list[AnyEvent]:
    """Return the events under a key; none if another pod has published them in the meantime.

    Raises:
        UnreadableEventError: a newer version wrote one of the events.
    """
    try:
        content = await blobs.get(key)
    except BlobMissingError:
        return []
    return [event for line in content.splitlines() if (event := parse(line)) is not None]
