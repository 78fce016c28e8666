"""Deposits: files that clients put into the object store themselves.

`deposits/{owner}/{id}/ticket.json` has what was said of a file at the beginning, and the client
puts the file to `content` beside it. When they say so, the store copies it to where files are, and
what is told of it is what the copy is: the address stays good for a while, and what is put there
later changes nothing any more. `done.json` takes the ticket's place then, so that saying so again
is answered the same. Twice at once is harmless: both copy the same and record the same event.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from services.upload.body.charsets import CharsetProbe
from services.upload.cleanup.sweep import sweep_folders
from services.upload.intake.accepted import Accepted, StoredFile
from services.upload.intake.batch import EMPTY
from services.upload.intake.idempotency import IdempotencyKeys
from services.upload.intake.intake import Intake
from services.upload.intake.rules import HEAD, accepted_type
from services.upload.quotas.usage import SOON, owner_of, used_up
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.blobs.places import source_key
from shared.blobs.signing import Signer
from shared.errors import (
    DirectOffError,
    EmptyFileError,
    LengthMismatchError,
    NothingPutError,
    RefusedError,
    ReusedIdempotencyKeyError,
    TooLargeError,
    UnknownUploadError,
)
from shared.events.events import file_id_age, new_file_id

PREFIX = "deposits/"

ADDRESS_LASTS = timedelta(hours=1)
"""How long a file may be put to its address: what has begun by then may go on. A connection that is
worth while brings the largest file in less."""


@dataclass(frozen=True, kw_only=True)
class DirectUploadRequest:
    """What a client says of its file before it puts it."""

    name: str
    size: int
    declared_type: str | None
    declared_charset: str | None = None
    sha256: str | None
    labels: dict[str, str]
    allow_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class PendingDirectUpload:
    """A file that somebody was let put."""

    id: str
    asked: DirectUploadRequest
    file: StoredFile | None = None
    """What it became."""
    is_repeated: bool = False
    """Whether it was asked for before, with the same Idempotency-Key."""


_DEPOSIT = TypeAdapter(PendingDirectUpload)


def _folder(deposit_id: str, asker: Principal) -> str:
    return f"{PREFIX}{owner_of(asker)}/{deposit_id}"


class DirectUploads:
    """Lets files be put, and takes in what was put."""

    def __init__(
        self,
        *,
        settings: UploadSettings,
        blobs: BlobStore,
        signer: Signer | None,
        intake: Intake,
    ) -> None:
        self._settings = settings
        self._blobs = blobs
        self._signer = signer
        self._intake = intake

    @property
    def signer(self) -> Signer:
        """What signs addresses.

        Raises:
            DirectOffError: nothing does.
        """
        if self._signer is None:
            raise DirectOffError(
                "The store of this service cannot be written to directly, as it does not speak S3: "
                "send the file by POST /api/files/upload."
            )
        if not self._settings.direct:
            raise DirectOffError(
                "This service lets nobody write to its store: send the file by "
                "POST /api/files/upload, or set WAYBILL_DIRECT=true."
            )
        return self._signer

    async def begin(
        self, asked: DirectUploadRequest, asker: Principal, *, key: str | None = None
    ) -> tuple[PendingDirectUpload, str]:
        """Let a file be put; returns the deposit, and the address to put it to.

        Args:
            key: with which the same is asked for again, if that is to give the same deposit.

        Raises:
            RefusedError: the file would not be accepted.
        """
        signer = self.signer
        if asked.size > self._settings.max_file_size:
            raise TooLargeError(
                f"The file has {asked.size} bytes; at most {self._settings.max_file_size} are "
                "accepted."
            )
        if asked.size == 0 and not asked.allow_empty:
            raise EmptyFileError(EMPTY)
        direct_upload = PendingDirectUpload(id=new_file_id(), asked=asked)
        if key is not None:
            direct_upload = await self._of_key(
                IdempotencyKeys.place(key, asker, "direct"), direct_upload
            )
        folder = _folder(direct_upload.id, asker)
        if await self._done(folder) is None:
            await self._check_number(folder, asker)
            await self._blobs.create(f"{folder}/ticket.json", _DEPOSIT.dump_json(direct_upload))
        return direct_upload, await signer.to_put(f"{folder}/content", lasts=ADDRESS_LASTS)

    async def _check_number(self, folder: str, asker: Principal) -> None:
        """Refuse one more than an owner may have: those whose addresses are good, on any pod."""
        limit = self._settings.owner_at_once
        if limit is None or asker.owner is None:
            return
        begun = await self._blobs.stored(f"{PREFIX}{owner_of(asker)}/")
        since = datetime.now(UTC) - ADDRESS_LASTS
        others = [
            key
            for key, blob in begun.items()
            if key.endswith("/ticket.json") and blob.at > since and not key.startswith(folder)
        ]
        if len(others) >= limit:
            raise used_up(
                f"You have {len(others)} direct uploads that are not completed, as many as may be: "
                "complete or DELETE them",
                SOON,
            )

    async def _of_key(self, place: str, direct_upload: PendingDirectUpload) -> PendingDirectUpload:
        """The deposit that was first asked for with a key."""
        while not await self._blobs.create(place, _DEPOSIT.dump_json(direct_upload)):
            try:
                first = _DEPOSIT.validate_json(await self._blobs.get(place))
            except BlobMissingError:
                continue  # Its time was over just now.
            if first.asked != direct_upload.asked:
                raise ReusedIdempotencyKeyError(
                    "Another file was announced with this Idempotency-Key; take a new key for it."
                )
            return replace(first, is_repeated=True)
        return direct_upload

    async def find(self, deposit_id: str, asker: Principal) -> PendingDirectUpload:
        """A deposit of the asker's.

        Raises:
            UnknownUploadError: the asker has no such deposit.
        """
        _ = self.signer
        if file_id_age(deposit_id, datetime.now(UTC)) is None:
            raise UnknownUploadError
        folder = _folder(deposit_id, asker)
        try:
            return _DEPOSIT.validate_json(await self._blobs.get(f"{folder}/ticket.json"))
        except BlobMissingError as error:
            if (done := await self._done(folder)) is None:
                raise UnknownUploadError from error
            return done

    async def _done(self, folder: str) -> PendingDirectUpload | None:
        try:
            return _DEPOSIT.validate_json(await self._blobs.get(f"{folder}/done.json"))
        except BlobMissingError:
            return None

    async def complete(self, direct_upload: PendingDirectUpload, asker: Principal) -> StoredFile:
        """Take in what was put; when this returns, it is stored and recorded like any upload.

        Raises:
            NothingPutError: there is nothing.
            LengthMismatchError: it is not as long as was said; it can be put again.
            RefusedError: it is not acceptable; nothing of it is kept.
            UnavailableError: something does not answer; it can be asked for again.
        """
        folder = _folder(direct_upload.id, asker)
        try:
            await self._copy(direct_upload, f"{folder}/content")
            file = await self._judge(direct_upload)
        except BlobMissingError as error:
            done = await self._done(folder)
            if done is not None and done.file is not None:
                return done.file  # Another request was faster.
            raise NothingPutError from error
        except LengthMismatchError:
            raise
        except RefusedError:
            await self._forget(folder)
            raise
        accepted = Accepted(
            files=[file],
            tenant=asker.tenant,
            owner=asker.owner,
            labels=direct_upload.asked.labels,
            batch_id=None,
        )
        await self._intake.record(accepted)
        record = _DEPOSIT.dump_json(replace(direct_upload, file=file))
        await self._blobs.put(f"{folder}/done.json", record)
        for name in ("ticket.json", "content"):
            await self._blobs.delete(f"{folder}/{name}")
        return file

    async def _copy(self, direct_upload: PendingDirectUpload, content: str) -> None:
        """Copy what was put to where files are, if it is as long as was said."""
        self._check_size(direct_upload, await self._blobs.size(content))
        place = source_key(direct_upload.id)
        await self._blobs.copy(content, place)
        try:
            self._check_size(direct_upload, await self._blobs.size(place))
        except LengthMismatchError:  # Something else was put meanwhile.
            await self._blobs.delete(place)
            raise

    def _check_size(self, direct_upload: PendingDirectUpload, size: int) -> None:
        if size != direct_upload.asked.size:
            raise LengthMismatchError(
                f"{direct_upload.asked.size} bytes were announced, {size} were put; put the file "
                "again."
            )

    async def _judge(self, direct_upload: PendingDirectUpload) -> StoredFile:
        place, asked = source_key(direct_upload.id), direct_upload.asked
        if asked.size == 0:
            return self._intake.empty_file(
                direct_upload.id, name=asked.name, declared_type=asked.declared_type
            )
        head = await self._blobs.start(place, HEAD)
        try:
            content_type = accepted_type(
                head, name=asked.name, declared=asked.declared_type, settings=self._settings
            )
        except RefusedError:
            await self._blobs.delete(place)
            raise
        probe = CharsetProbe(head, content_type=content_type, declared=asked.declared_charset)
        return StoredFile(
            file_id=direct_upload.id,
            name=asked.name,
            size=asked.size,
            content_type=content_type,
            charset=probe.charset_by_head(is_whole=len(head) == asked.size),
            sha256=asked.sha256,
        )

    async def abandon(self, direct_upload: PendingDirectUpload, asker: Principal) -> None:
        """Forget a deposit. A file that it has become stays."""
        await self._forget(_folder(direct_upload.id, asker))

    async def _forget(self, folder: str) -> None:
        for name in ("ticket.json", "done.json", "content"):
            await self._blobs.delete(f"{folder}/{name}")

    async def sweep(self) -> int:
        """Forget the deposits that nobody went on with; returns how many.

        Raises:
            BlobStoreUnavailableError: the blob store does not answer.
        """
        return await sweep_folders(self._blobs, PREFIX)
