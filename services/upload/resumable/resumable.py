"""Resumable uploads: parts in the blob store that become a file once all are present.

`uploads/{id}/ticket.json` holds the upload's description, and `uploads/{id}/{offset}.{number}` its
parts. Each part is written by a single request, so its content is what that request hashed. The
offset of an upload follows from its parts alone, so any pod can resume it. Any pod that finds it
complete creates the file. This is harmless to repeat, because the file's id is the upload's.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import TypeAdapter

from services.upload.body.body import IncomingFile
from services.upload.body.charsets import CharsetProbe
from services.upload.body.labels import read_labels
from services.upload.body.names import UNNAMED, charset, clean_name, media_type
from services.upload.cleanup.sweep import sweep_folders
from services.upload.intake.accepted import Accepted, StoredFile
from services.upload.intake.batch import ALLOW_EMPTY, EMPTY, is_set
from services.upload.intake.intake import Intake
from services.upload.intake.rules import HEAD, accepted_type
from services.upload.resumable.appending import Incoming
from services.upload.resumable.concatenation import Concat
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobinfo import Stored
from shared.blobs.blobs import BlobStore
from shared.blobs.directory import Read
from shared.blobs.places import source_key
from shared.errors import (
    BadParameterError,
    EmptyFileError,
    OffsetConflictError,
    RefusedError,
    TooLargeError,
    UnknownUploadError,
)
from shared.events.events import file_id_age, new_file_id

PREFIX = "uploads/"


@dataclass(frozen=True, kw_only=True)
class UploadInfo:
    """The description of an upload from its creation."""

    length: int
    metadata: dict[str, str]
    tenant: str | None
    owner: str | None
    concat: Concat | None = None
    """Set for partial and final uploads; None for ordinary ones."""
    done: bool = False
    """True once the upload became a file or part of one."""


@dataclass(frozen=True, kw_only=True)
class _Final:
    """The final upload that the first of its partial uploads remembers."""

    id: str
    of: tuple[str, ...]


_INFO = TypeAdapter(UploadInfo)
_FINAL = TypeAdapter(_Final)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The current state of a resumable upload."""

    id: str
    info: UploadInfo
    parts: list[str]
    """Keys of the contiguous parts, in order."""
    offset: int
    """Bytes stored so far."""
    sha256: str | None = None
    """Hash of all bytes if a single request has just sent them, otherwise None."""


def chain(sizes: Mapping[int, int]) -> tuple[list[int], int]:
    """Return the offsets of the contiguous parts from 0, and where they end."""
    parts, end = [], 0
    while sizes.get(end):
        parts.append(end)
        end += sizes[end]
    return parts, end


@dataclass(eq=False)
class _Holder:
    """A request that holds an upload exclusively."""

    asked_to_end: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


def _folder(upload_id: str) -> str:
    return f"{PREFIX}{upload_id}/"


def _info_key(upload_id: str) -> str:
    return f"{_folder(upload_id)}ticket.json"


def _new_part_key(upload_id: str, offset: int) -> str:
    return f"{_folder(upload_id)}{offset:020d}.{uuid4().hex}"


def _parts_of(stored: Mapping[str, Stored]) -> dict[int, tuple[int, str]]:
    """Return size and key of the parts in an upload's folder, by offset.

    Of several parts at the same offset, the largest counts.
    """
    parts: dict[int, tuple[int, str]] = {}
    for key, blob in stored.items():
        offset = key.rpartition("/")[2].partition(".")[0]
        if offset.isdecimal():
            parts[int(offset)] = max(parts.get(int(offset), (0, "")), (blob.size, key))
    return parts


class Resumable:
    """Creates, resumes and completes uploads."""

    def __init__(self, *, settings: UploadSettings, blobs: BlobStore, intake: Intake) -> None:
        self._settings = settings
        self._blobs = blobs
        self._intake = intake
        self._holders: dict[str, _Holder] = {}

    async def create(
        self,
        length: int,
        metadata: dict[str, str],
        asker: Principal,
        *,
        concat: Concat | None = None,
        upload_id: str | None = None,
    ) -> str:
        """Create an upload.

        Args:
            length: Size of the file in bytes.
            metadata: The parsed `Upload-Metadata`.
            asker: The caller.
            concat: The parsed `Upload-Concat`, if any.
            upload_id: The id to use; a new one by default.

        Returns:
            The id of the upload.

        Raises:
            RefusedError: The file would not be accepted.
        """
        limit = self._settings.max_file_size
        if length > limit:
            raise TooLargeError(f"The file has {length} bytes; the limit is {limit}.")
        if length == 0 and not is_set(ALLOW_EMPTY, metadata.items()):
            raise EmptyFileError(EMPTY)
        read_labels(metadata.items())
        upload_id = upload_id or new_file_id()
        info = UploadInfo(
            length=length,
            metadata=metadata,
            tenant=asker.tenant,
            owner=asker.owner,
            concat=concat,
        )
        await self._blobs.put(_info_key(upload_id), _INFO.dump_json(info))
        return upload_id

    async def concatenate(self, concat: Concat, metadata: dict[str, str], asker: Principal) -> str:
        """Create a final upload from partial ones. A repeat returns the same upload.

        Returns:
            The id of the upload.

        Raises:
            RefusedError: A listed upload is not partial or not complete.
        """
        length = 0
        for part_id in concat.of:
            part = await self._find(part_id, asker)
            if part.info.concat is None or not part.info.concat.is_partial:
                raise BadParameterError(
                    f"The upload {part_id} is not a partial upload; list partial uploads only."
                )
            if part.offset < part.info.length:
                raise OffsetConflictError(
                    f"The upload {part_id} is at {part.offset} of {part.info.length} bytes; "
                    "complete it first."
                )
            length += part.info.length
        place = f"{_folder(concat.of[0])}final.json"
        final = _Final(id=new_file_id(), of=concat.of)
        if not await self._blobs.create(place, _FINAL.dump_json(final)):
            final = _FINAL.validate_json(await self._blobs.get(place))
            if final.of != concat.of:
                raise OffsetConflictError(
                    "The uploads already belong to another final upload; upload the parts again."
                )
        with suppress(UnknownUploadError):
            await self._info(final.id, asker)
            return final.id
        return await self.create(length, metadata, asker, concat=concat, upload_id=final.id)

    @asynccontextmanager
    async def hold(
        self, upload_id: str, asker: Principal
    ) -> AsyncIterator[tuple[Upload, asyncio.Event]]:
        """Hold an upload exclusively on this pod.

        A request that already holds it is asked to end. A client that returns has lost its
        connection, which the server may notice only after a minute.

        Yields:
            The upload, and an event that is set when another request takes over.

        Raises:
            UnknownUploadError: The caller has no such upload.
        """
        if upload_id in self._holders:
            await self._info(upload_id, asker)  # Only the owner may take over.
        while (older := self._holders.get(upload_id)) is not None:
            older.asked_to_end.set()
            await older.ended.wait()
        hold = self._holders[upload_id] = _Holder()
        try:
            yield await self._find(upload_id, asker), hold.asked_to_end
        finally:
            del self._holders[upload_id]
            hold.ended.set()

    async def _info(self, upload_id: str, asker: Principal) -> UploadInfo:
        if file_id_age(upload_id, datetime.now(UTC)) is None:
            raise UnknownUploadError
        try:
            info = _INFO.validate_json(await self._blobs.get(_info_key(upload_id)))
        except BlobMissingError as error:
            raise UnknownUploadError from error
        if (info.tenant, info.owner) != (asker.tenant, asker.owner):
            raise UnknownUploadError
        return info

    async def _find(self, upload_id: str, asker: Principal) -> Upload:
        info = await self._info(upload_id, asker)
        if info.done:
            return Upload(id=upload_id, info=info, parts=[], offset=info.length)
        if info.concat is not None and not info.concat.is_partial:
            found = [await self._parts(each) for each in info.concat.of]
            parts = [key for keys, _ in found for key in keys]
            return Upload(id=upload_id, info=info, parts=parts, offset=sum(n for _, n in found))
        parts, offset = await self._parts(upload_id)
        return Upload(id=upload_id, info=info, parts=parts, offset=offset)

    async def _parts(self, upload_id: str) -> tuple[list[str], int]:
        """Return the keys of an upload's parts, and their total size in bytes."""
        parts = _parts_of(await self._blobs.stored(_folder(upload_id)))
        offsets, end = chain({offset: size for offset, (size, _) in parts.items()})
        return [parts[offset][1] for offset in offsets], end

    async def append(self, upload: Upload, incoming: Incoming) -> Upload:
        """Store the bytes of a request.

        Returns:
            The new state of the upload.

        Raises:
            RefusedError: The request has more bytes than missing, or a wrong checksum. The
                affected part is discarded.
        """
        sha256, is_all = hashlib.sha256(), upload.offset == 0
        while await incoming.has_next_part():
            part = _new_part_key(upload.id, upload.offset)
            await self._blobs.put_stream(part, incoming.read_part, see=sha256.update)
            end = upload.offset + incoming.size
            upload = replace(upload, parts=[*upload.parts, part], offset=end)
        return replace(upload, sha256=sha256.hexdigest() if is_all else None)

    async def complete(self, upload: Upload) -> None:
        """Turn a complete upload into a file. Does nothing for a partial or a finished upload.

        Raises:
            RefusedError: The file is rejected and deleted.
            UnavailableError: A dependency does not answer; the client can retry.
        """
        info = upload.info
        if info.done or (info.concat is not None and info.concat.is_partial):
            return
        try:
            file = await self._store(upload)
        except RefusedError:
            await self.terminate(upload)
            raise
        await self._intake.record(
            Accepted(
                files=[file],
                tenant=info.tenant,
                owner=info.owner,
                labels=read_labels(info.metadata.items()),
                batch_id=None,
            )
        )
        await self._blobs.put(_info_key(upload.id), _INFO.dump_json(replace(info, done=True)))
        for part_id in info.concat.of if info.concat is not None else ():
            await self._mark_done(part_id)
        for part in upload.parts:
            await self._blobs.delete(part)

    async def _store(self, upload: Upload) -> StoredFile:
        """Assemble the file. A single part with a known hash is copied within the store."""
        metadata = upload.info.metadata
        name = clean_name(metadata.get("filename") or metadata.get("name") or UNNAMED)
        filetype = metadata.get("filetype") or metadata.get("type")
        declared_type, declared_charset = media_type(filetype), charset(filetype)
        if upload.info.length == 0:
            return await self._intake.store_empty(upload.id, name=name, declared_type=declared_type)
        if len(upload.parts) > 1 or upload.sha256 is None:
            read = self._reading(upload)
            file = IncomingFile(
                name=name,
                declared_type=declared_type,
                declared_charset=declared_charset,
                read=read,
            )
            return await self._intake.store_known(upload.id, file)
        (part,) = upload.parts
        head = await self._blobs.start(part, HEAD)
        content_type = accepted_type(
            head, name=name, declared=declared_type, settings=self._settings
        )
        probe = CharsetProbe(head, content_type=content_type, declared=declared_charset)
        await self._blobs.copy(part, source_key(upload.id))
        return StoredFile(
            file_id=upload.id,
            name=name,
            size=upload.offset,
            content_type=content_type,
            charset=probe.charset_by_head(is_whole=len(head) == upload.offset),
            sha256=upload.sha256,
        )

    async def _mark_done(self, part_id: str) -> None:
        key = _info_key(part_id)
        with suppress(BlobMissingError):  # Its client has deleted it in the meantime.
            info = _INFO.validate_json(await self._blobs.get(key))
            await self._blobs.put(key, _INFO.dump_json(replace(info, done=True)))

    def _reading(self, upload: Upload) -> Read:
        async def pieces() -> AsyncIterator[bytes]:
            for part in upload.parts:
                async for piece in await self._blobs.stream(part):
                    yield piece

        all_of_it = pieces()

        async def read() -> bytes:
            return await anext(all_of_it, b"")

        return read

    async def terminate(self, upload: Upload) -> None:
        """Delete an upload. A file that was already accepted is kept."""
        for key in sorted(await self._blobs.stored(_folder(upload.id)), reverse=True):
            await self._blobs.delete(key)  # Reverse order deletes `ticket.json` first.

    async def sweep(self) -> int:
        """Delete uploads that have had no request for a day.

        Returns:
            The number of deleted uploads.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        return await sweep_folders(self._blobs, PREFIX)
