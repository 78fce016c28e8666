"""Store the files of a request, then record them with events, or leave no trace.

All files of a request are stored before the first event is published. Rejected files are reported
and the others are accepted; with `atomic=true`, all are accepted or none. An event that Kafka does
not acknowledge in time goes to the outbox. One case cannot be undone: some of several events are
published or in the outbox, and the rest can go to neither. The error then lists the accepted files.
"""

import asyncio
import hashlib
import logging
from contextlib import suppress
from dataclasses import replace

from services.upload.body.body import Body, IncomingFile
from services.upload.body.charsets import CharsetProbe
from services.upload.body.labels import read_labels
from services.upload.intake.accepted import Accepted, StoredFile
from services.upload.intake.batch import ALLOW_EMPTY, ATOMIC, EMPTY, PER_FILE, Batch, is_set
from services.upload.intake.duplicates import Duplicates
from services.upload.intake.idempotency import IdempotencyKeys, read_key
from services.upload.intake.outbox import Outbox
from services.upload.intake.rules import HEAD, accepted_type, check_type
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.blobs.blobs import BlobStore
from shared.blobs.directory import Read
from shared.blobs.files import Piece
from shared.blobs.places import source_key
from shared.errors import (
    BlobStoreUnavailableError,
    EmptyFileError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from shared.events.events import FileUploaded, UploadedData, new_file_id

log = logging.getLogger(__name__)

SOURCE = "/upload"

EMPTY_TYPE = "text/plain"
"""Type of an empty file without a declared type."""


class Intake:
    """Stores and records incoming files."""

    def __init__(
        self,
        *,
        settings: UploadSettings,
        blobs: BlobStore,
        outbox: Outbox,
        keys: IdempotencyKeys,
        duplicates: Duplicates,
    ) -> None:
        self._settings = settings
        self._blobs = blobs
        self._outbox = outbox
        self._keys = keys
        self._duplicates = duplicates

    async def take(self, body: Body, asker: Principal) -> Accepted:
        """Store the files of one request and record them as the caller's.

        On return, every file is stored, and its event is on all in-sync replicas of Kafka or in the
        outbox.

        Raises:
            RefusedError: A file or the request is rejected.
            UnavailableError: The blob store does not answer, or the outbox is full.
            ClientDisconnect: The client disconnected.
        """
        key = read_key(body.idempotency_key)
        self._outbox.check_room()
        if body.fields:  # Validate query parameters before reading the body.
            read_labels(body.fields)
            self._duplicates.wanted(body.fields)
            for option in (ALLOW_EMPTY, ATOMIC):
                is_set(option, body.fields)
        batch = Batch()
        try:
            async for file in body.files():
                await self._store_one(file, batch)
            await self._store_empty_files(batch, allowed=is_set(ALLOW_EMPTY, body.fields))
            batch.check(atomic=is_set(ATOMIC, body.fields))
            labels = read_labels(body.fields)
            deduplicates = self._duplicates.wanted(body.fields)
        except BaseException:
            await self._discard(batch.stored)
            raise
        stored = batch.stored
        if deduplicates:
            stored = await self._without_duplicates(stored, asker)
        accepted = Accepted(
            files=stored,
            tenant=asker.tenant,
            owner=asker.owner,
            labels=labels,
            batch_id=new_file_id() if batch.is_batch else None,
            refused=tuple(batch.refused_files),
        )
        if key is None:
            await self._record(accepted)
        elif (
            first := await self._record_once(accepted, IdempotencyKeys.place(key, asker))
        ) is not accepted:
            return first
        if deduplicates:
            await self._duplicates.remember(accepted, asker)
        return accepted

    async def _store_one(self, file: IncomingFile, batch: Batch) -> None:
        """Store one file of a request, or record why it is rejected.

        Errors that concern the whole request, such as a disconnect, are raised.
        """
        try:
            stored = await self._store(file)
        except EmptyFileError as error:
            batch.defer_empty(file, error)
        except PER_FILE as error:
            await batch.refuse(file, error)
        else:
            batch.accept(stored)

    async def _store_empty_files(self, batch: Batch, *, allowed: bool) -> None:
        """Store the empty files if they are allowed, once all fields are read."""
        for place, file in batch.take_empty(allowed=allowed):
            stored = await self.store_empty(
                new_file_id(), name=file.name, declared_type=file.declared_type
            )
            batch.accept(stored, place)

    async def store_known(self, file_id: str, file: IncomingFile) -> StoredFile:
        """Store a file under an existing id. Idempotent.

        Raises:
            RefusedError: The file is rejected.
            UnavailableError: The blob store does not answer.
        """
        return await self._store(file, file_id)

    async def store_empty(
        self, file_id: str, *, name: str, declared_type: str | None
    ) -> StoredFile:
        """Store a file without content. Idempotent.

        Raises:
            ForbiddenTypeError: The type is not accepted.
            UnavailableError: The blob store does not answer.
        """
        stored = self.empty_file(file_id, name=name, declared_type=declared_type)
        await self._blobs.put(stored.key, b"")
        return stored

    async def record(self, accepted: Accepted) -> None:
        """Record stored files. Idempotent. The files stay stored if this fails.

        Raises:
            UnavailableError: The outbox is full, or the blob store does not answer.
        """
        for error in filter(None, await self._publish_all(accepted)):
            raise error

    async def _store(self, file: IncomingFile, file_id: str | None = None) -> StoredFile:
        head = await _head_of(file.read)
        if not head:
            raise EmptyFileError(EMPTY.replace("The file", repr(file.name), 1))
        content_type = accepted_type(
            bytes(head[:HEAD]),
            name=file.name,
            declared=file.declared_type,
            settings=self._settings,
        )
        is_new, file_id = file_id is None, file_id or new_file_id()
        beginning = bytes(head[:HEAD])
        probe = CharsetProbe(beginning, content_type=content_type, declared=file.declared_charset)
        meter = _Meter(head, file, self._settings.max_file_size, probe)
        # A file with an existing id may be stored twice, so it must always get the same key.
        blob = await self._blobs.put_stream(
            source_key(file_id), meter.read, see=meter.see, anywhere=is_new
        )
        return StoredFile(
            file_id=file_id,
            name=file.name,
            size=meter.size,
            content_type=content_type,
            charset=probe.charset(),
            sha256=meter.sha256.hexdigest(),
            blob=blob,
        )

    def empty_file(self, file_id: str, *, name: str, declared_type: str | None) -> StoredFile:
        """Describe a file without content. Its type is the declared one, or `EMPTY_TYPE`.

        Raises:
            ForbiddenTypeError: The type is not accepted.
        """
        content_type = declared_type or EMPTY_TYPE
        check_type(content_type, name=name, forbidden=self._settings.forbidden_types)
        return StoredFile(
            file_id=file_id,
            name=name,
            size=0,
            content_type=content_type,
            sha256=hashlib.sha256().hexdigest(),
        )

    async def _without_duplicates(
        self, stored: list[StoredFile], asker: Principal
    ) -> list[StoredFile]:
        """Replace duplicates with the earlier files and delete the new copies."""
        files = await self._duplicates.replaced(stored, asker)
        pairs = zip(stored, files, strict=True)
        await self._discard([file for file, kept in pairs if kept is not file])
        return files

    async def _record_once(self, accepted: Accepted, place: str) -> Accepted:
        """Record a request with an idempotency key, or return the outcome of the earlier one.

        Files that the stored key may name are kept on any failure: a repeat publishes them, or the
        sweep removes them.
        """
        try:
            first, published = await self._keys.settle(place, accepted)
        except RefusedError:
            await self._discard(accepted.files)
            raise
        if first is not accepted:
            await self._discard(accepted.files)
        if not published:
            await self.record(first)
            with suppress(BlobStoreUnavailableError):  # A repeat would publish again.
                await self._keys.published(place, first)
        return first if first is accepted else replace(first, replayed=True)

    async def _record(self, accepted: Accepted) -> None:
        outcomes = await self._publish_all(accepted)
        failed = [error for error in outcomes if error is not None]
        if not failed:
            return
        pairs = list(zip(accepted.files, outcomes, strict=True))
        # An unacknowledged event may still be in the log, so its file must stay. If the event is
        # not in the log, the sweep deletes the file.
        refused = [
            file for file, error in pairs if error and not isinstance(error, UnavailableError)
        ]
        await self._discard(refused)
        taken = [file for file, error in pairs if error is None]
        if taken and isinstance(failed[0], UnavailableError):
            raise type(failed[0])(
                f"{len(taken)} of {len(pairs)} files were accepted before an error occurred. "
                "They are listed under `accepted`; send only the others again later.",
                members={"accepted": [{"file_id": f.file_id, "name": f.name} for f in taken]},
            ) from failed[0]
        raise failed[0]

    async def _publish_all(self, accepted: Accepted) -> list[BaseException | None]:
        if len(accepted.files) > 1:
            publishing = (self._publish(file, accepted) for file in accepted.files)
            return await asyncio.gather(*publishing, return_exceptions=True)
        try:  # Avoids the task that `gather` would create.
            await self._publish(accepted.files[0], accepted)
        except Exception as error:
            return [error]
        return [None]

    async def _publish(self, file: StoredFile, accepted: Accepted) -> None:
        """Record one file. Return once all in-sync replicas or the outbox have the event.

        Raises:
            UnavailableError: Neither accepts the event.
        """
        if file.deduplicated:
            return
        data = UploadedData(
            blob=file.key,
            content_type=file.content_type,
            charset=file.charset,
            size=file.size,
            sha256=file.sha256,
            name=file.name,
            tenant=accepted.tenant,
            owner=accepted.owner,
            labels=accepted.labels,
            batch_id=accepted.batch_id,
        )
        await self._outbox.publish(FileUploaded.of(file.file_id, data, source=SOURCE))

    async def _discard(self, files: list[StoredFile]) -> None:
        for file in files:
            if file.deduplicated:
                continue  # It belongs to another request.
            try:
                await self._blobs.delete(file.key)
            except BlobStoreUnavailableError as error:
                log.warning("the blob of rejected file %s is not deleted: %s", file.file_id, error)


async def _head_of(read: Read) -> Piece:
    """Read enough pieces to detect the type: at least `HEAD` bytes, or the whole file."""
    head = await read()
    while head and len(head) < HEAD and (piece := await read()):
        head = b"".join((head, piece))
    return head


class _Meter:
    """Counts, hashes and probes the content of a file while it is stored."""

    def __init__(self, head: Piece, file: IncomingFile, limit: int, probe: CharsetProbe) -> None:
        self._head = head
        self._file = file
        self._limit = limit
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._probe = probe

    def see(self, piece: Piece) -> None:
        """Hash and probe the next piece of the content."""
        self.sha256.update(piece)
        self._probe.update(piece)

    async def read(self) -> Piece:
        """Return the next piece of the content; b"" at its end.

        Raises:
            TooLargeError: The file exceeds the limit.
        """
        piece, self._head = self._head or await self._file.read(), b""
        self.size += len(piece)
        if self.size > self._limit:
            raise TooLargeError(
                f"{self._file.name!r} has more bytes than the limit of {self._limit}."
            )
        return piece
