"""Deduplication: a repeated upload of the same content returns the owner's earlier file.

The index is in the blob store, which all pods share: `known/{place}/{file_id}`. The place is
derived from tenant, owner, hash and type, and the content is the key of the file's blob. A file
enters the index once its event is durable, so every indexed file was accepted. Concurrent equal
uploads do not see each other and become two files. `known/of/{file_id}` holds the place, so that
deleting a file leaves no trace. `known/ended/{file_id}` marks a failed or cancelled file, which no
longer counts.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from services.upload.intake.accepted import Accepted, StoredFile
from services.upload.kafka_connection import KafkaConnection
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.blobs.places import file_id_of
from shared.errors import BadParameterError, BlobStoreUnavailableError

log = logging.getLogger(__name__)

PREFIX = "known"

FIELD = "deduplicate"
"""Form field or query parameter that enables or disables deduplication."""


class Duplicates:
    """Finds earlier files with the same content."""

    def __init__(
        self, *, settings: UploadSettings, blobs: BlobStore, link: KafkaConnection
    ) -> None:
        self._mode = settings.deduplicate
        self._blobs = blobs
        self._link = link

    def wanted(self, fields: Iterable[tuple[str, str]]) -> bool:
        """Return True if a request with these fields is to be deduplicated.

        Raises:
            BadParameterError: The value is invalid, or deduplication is disabled.
        """
        asked = dict(fields).get(FIELD)
        if asked not in (None, "true", "false"):
            raise BadParameterError(
                f"The field {FIELD!r} is {asked[:80]!r}; it must be `true` or `false`."
            )
        if asked == "true" and self._mode == "off":
            raise BadParameterError(
                "Deduplication is disabled; set WAYBILL_DEDUPLICATE=asked to enable it."
            )
        return self._mode == "always" if asked is None else asked == "true"

    async def replaced(self, files: Sequence[StoredFile], asker: Principal) -> list[StoredFile]:
        """Return the files, each replaced by an earlier file with the same content if one counts.

        Nothing is replaced while Kafka is unavailable, because file outcomes are then unknown.
        """
        if self._link.unavailable_reason is not None:
            return list(files)
        return [await self._earlier(file, asker) or file for file in files]

    async def _earlier(self, file: StoredFile, asker: Principal) -> StoredFile | None:
        place = _place(file, asker)
        with suppress(BlobStoreUnavailableError):
            for key in await self._blobs.keys(f"{place}/"):
                earlier = await self._load(file, key)
                if earlier is not None and await self._counts(earlier):
                    return earlier
                await self._blobs.delete(key)
        return None

    async def _load(self, file: StoredFile, key: str) -> StoredFile | None:
        try:
            blob = (await self._blobs.get(key)).decode()
        except BlobMissingError:
            return None  # It has just been deleted.
        return replace(file, file_id=file_id_of(key), blob=blob or None, deduplicated=True)

    async def _counts(self, file: StoredFile) -> bool:
        return not await self._exists(_ended(file.file_id)) and await self._exists(file.key)

    async def _exists(self, key: str) -> bool:
        try:
            await self._blobs.size(key)
        except BlobMissingError:
            return False
        return True

    async def remember(self, accepted: Accepted, asker: Principal) -> None:
        """Add recorded files to the index. On failure, later uploads do not find them."""
        try:
            for file in accepted.files:
                if not file.deduplicated:
                    place = _place(file, asker)
                    await self._blobs.put(_of(file.file_id), place.encode(), durable=False)
                    await self._blobs.put(
                        f"{place}/{file.file_id}", file.key.encode(), durable=False
                    )
        except BlobStoreUnavailableError as error:
            log.warning("the files are not indexed for deduplication: %s", error)

    async def ended(self, file_id: str) -> None:
        """Exclude a file that failed or was cancelled.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        await self._blobs.put(_ended(file_id), b"")

    async def forget(self, file_id: str) -> None:
        """Remove all traces of a deleted file.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        with suppress(BlobMissingError):
            place = (await self._blobs.get(_of(file_id))).decode()
            await self._blobs.delete(f"{place}/{file_id}")
        await self._blobs.delete(_of(file_id))
        await self._blobs.delete(_ended(file_id))


def _place(file: StoredFile, asker: Principal) -> str:
    identity = json.dumps([asker.tenant, asker.owner, file.sha256, file.content_type])
    return f"{PREFIX}/{hashlib.sha256(identity.encode()).hexdigest()}"


def _of(file_id: str) -> str:
    return f"{PREFIX}/of/{file_id}"


def _ended(file_id: str) -> str:
    return f"{PREFIX}/ended/{file_id}"
