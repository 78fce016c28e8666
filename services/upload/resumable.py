"""Resumable uploads: parts in the blob store that become a file when all are there.

`uploads/{id}/ticket.json` has what was said at the beginning, `uploads/{id}/{offset}` are the
parts. How far an upload is follows from the parts alone, so any pod can go on with it, and any pod
that finds all of it there makes the file: its id is the upload's, so doing it twice is harmless.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from services.upload.appending import Incoming
from services.upload.body import IncomingFile
from services.upload.intake import Intake
from services.upload.labels import read_labels
from services.upload.names import UNNAMED, clean_name, media_type
from services.upload.settings import UploadSettings
from services.upload.sweep import sweep_folders
from shared.blobs import BlobMissingError, BlobStore, Stored
from shared.directory import Read
from shared.errors import (
    EmptyFileError,
    RefusedError,
    TooLargeError,
    UnknownUploadError,
)
from shared.events import file_id_age, new_file_id
from shared.principal import Principal

PREFIX = "uploads/"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What was said of an upload at its beginning."""

    length: int
    metadata: dict[str, str]
    tenant: str | None
    owner: str | None
    done: bool = False
    """Whether it became a file."""


_TICKET = TypeAdapter(Ticket)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A resumable upload as it stands."""

    id: str
    ticket: Ticket
    parts: list[int]
    """Where its parts begin, each where the one before ends."""
    offset: int
    """Bytes that are there."""


def chain(sizes: Mapping[int, int]) -> tuple[list[int], int]:
    """The parts that follow on each other from the beginning, and where they end."""
    parts, end = [], 0
    while sizes.get(end):
        parts.append(end)
        end += sizes[end]
    return parts, end


@dataclass(eq=False)
class _Turn:
    """A request that has an upload in its hands."""

    asked_to_end: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


def _folder(upload_id: str) -> str:
    return f"{PREFIX}{upload_id}/"


def _ticket_key(upload_id: str) -> str:
    return f"{_folder(upload_id)}ticket.json"


def _part_key(upload_id: str, offset: int) -> str:
    return f"{_folder(upload_id)}{offset:020d}"


def _sizes(stored: Mapping[str, Stored]) -> dict[int, int]:
    """The sizes of the parts among what stands in an upload's folder, by their offsets."""
    named = ((key.rpartition("/")[2], blob.size) for key, blob in stored.items())
    return {int(name): size for name, size in named if name.isdecimal()}


class Resumable:
    """Begins uploads, goes on with them, and ends them."""

    def __init__(self, *, settings: UploadSettings, blobs: BlobStore, intake: Intake) -> None:
        self._settings = settings
        self._blobs = blobs
        self._intake = intake
        self._turns: dict[str, _Turn] = {}

    async def create(self, length: int, metadata: dict[str, str], asker: Principal) -> str:
        """Begin an upload of so many bytes; returns its id.

        Raises:
            RefusedError: it would not be accepted at its end.
        """
        limit = self._settings.max_file_size
        if length > limit:
            raise TooLargeError(f"The file has {length} bytes; at most {limit} are accepted.")
        if length == 0:
            raise EmptyFileError("The file is empty; send a file with content.")
        read_labels(metadata.items())
        upload_id = new_file_id()
        ticket = Ticket(length=length, metadata=metadata, tenant=asker.tenant, owner=asker.owner)
        await self._blobs.put(_ticket_key(upload_id), _TICKET.dump_json(ticket))
        return upload_id

    @asynccontextmanager
    async def turn(
        self, upload_id: str, asker: Principal
    ) -> AsyncIterator[tuple[Upload, asyncio.Event]]:
        """Have an upload in one's hands, alone on this pod, until the event asks to end.

        Whoever has it before is asked to: a client that comes again has lost its connection, which
        may take a minute to show.

        Raises:
            UnknownUploadError: the asker has no such upload.
        """
        if upload_id in self._turns:
            await self._ticket(upload_id, asker)  # Nobody ends the upload of another.
        while (older := self._turns.get(upload_id)) is not None:
            older.asked_to_end.set()
            await older.ended.wait()
        turn = self._turns[upload_id] = _Turn()
        try:
            yield await self._find(upload_id, asker), turn.asked_to_end
        finally:
            del self._turns[upload_id]
            turn.ended.set()

    async def _ticket(self, upload_id: str, asker: Principal) -> Ticket:
        if file_id_age(upload_id, datetime.now(UTC)) is None:
            raise UnknownUploadError
        try:
            ticket = _TICKET.validate_json(await self._blobs.get(_ticket_key(upload_id)))
        except BlobMissingError as error:
            raise UnknownUploadError from error
        if (ticket.tenant, ticket.owner) != (asker.tenant, asker.owner):
            raise UnknownUploadError
        return ticket

    async def _find(self, upload_id: str, asker: Principal) -> Upload:
        ticket = await self._ticket(upload_id, asker)
        if ticket.done:
            return Upload(id=upload_id, ticket=ticket, parts=[], offset=ticket.length)
        stored = await self._blobs.stored(_folder(upload_id))
        parts, offset = chain(_sizes(stored))
        return Upload(id=upload_id, ticket=ticket, parts=parts, offset=offset)

    async def append(self, upload: Upload, incoming: Incoming) -> Upload:
        """Store what a request brings; returns the upload as it is then.

        Raises:
            RefusedError: the request brings more than is missing, or not what its checksum tells
                of; nothing of the part in question is kept.
        """
        while await incoming.begins_part():
            offset = upload.offset
            await self._blobs.put_stream(_part_key(upload.id, offset), incoming.read_part)
            upload = replace(upload, parts=[*upload.parts, offset], offset=offset + incoming.size)
        return upload

    async def complete(self, upload: Upload) -> None:
        """Make a file of an upload that is all there; does nothing if that is done.

        Raises:
            RefusedError: the file is not acceptable; nothing of it is kept.
            UnavailableError: something does not answer; it can be asked for again.
        """
        ticket = upload.ticket
        if ticket.done:
            return
        metadata = ticket.metadata
        file = IncomingFile(
            name=clean_name(metadata.get("filename") or metadata.get("name") or UNNAMED),
            declared_type=media_type(metadata.get("filetype") or metadata.get("type")),
            read=self._reading(upload),
        )
        try:
            await self._intake.take_known(
                upload.id,
                file,
                tenant=ticket.tenant,
                owner=ticket.owner,
                labels=read_labels(metadata.items()),
            )
        except RefusedError:
            await self.terminate(upload)
            raise
        done = _TICKET.dump_json(replace(ticket, done=True))
        await self._blobs.put(_ticket_key(upload.id), done)
        for offset in upload.parts:
            await self._blobs.delete(_part_key(upload.id, offset))

    def _reading(self, upload: Upload) -> Read:
        async def pieces() -> AsyncIterator[bytes]:
            for offset in upload.parts:
                async for piece in await self._blobs.stream(_part_key(upload.id, offset)):
                    yield piece

        all_of_it = pieces()

        async def read() -> bytes:
            return await anext(all_of_it, b"")

        return read

    async def terminate(self, upload: Upload) -> None:
        """Forget an upload. A file that it has become stays."""
        for key in sorted(await self._blobs.stored(_folder(upload.id)), reverse=True):
            await self._blobs.delete(key)  # The ticket comes first: it sorts after the digits.

    async def sweep(self) -> int:
        """Forget the uploads that nobody went on with; returns how many.

        Raises:
            BlobStoreUnavailableError: the blob store does not answer.
        """
        return await sweep_folders(self._blobs, PREFIX)
