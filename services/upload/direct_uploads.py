"""Direct uploads: clients put files straight into the object store.

`deposits/{owner}/{id}/ticket.json` holds the client's description of the file, and the client puts
the file to `content` next to it. On completion, the store copies it to its final key, and all
checks use the copy. The signed URL stays valid for a while, but later writes to it have no effect.
`done.json` then replaces the ticket, so that a repeated completion returns the same answer. Two
concurrent completions are harmless: both copy the same bytes and record the same event.
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
from services.upload.quotas.usage import CONCURRENCY_RETRY_AFTER, owner_of, quota_error
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

URL_TTL = timedelta(hours=1)
"""Lifetime of a signed URL. A PUT that began in time may finish later. Any practical connection
transfers the largest file in less time."""


@dataclass(frozen=True, kw_only=True)
class DirectUploadRequest:
    """A client's description of a file that it is about to upload."""

    name: str
    size: int
    declared_type: str | None
    declared_charset: str | None = None
    sha256: str | None
    labels: dict[str, str]
    allow_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class PendingDirectUpload:
    """A direct upload that was created."""

    id: str
    asked: DirectUploadRequest
    file: StoredFile | None = None
    """The accepted file; None until the upload is completed."""
    is_repeated: bool = False
    """True if an earlier request with the same Idempotency-Key created it."""


_PENDING = TypeAdapter(PendingDirectUpload)


def _folder(upload_id: str, asker: Principal) -> str:
    return f"{PREFIX}{owner_of(asker)}/{upload_id}"


class DirectUploads:
    """Creates and completes direct uploads."""

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
        """The signer of upload URLs.

        Raises:
            DirectOffError: Direct uploads are disabled, or the blob store does not speak S3.
        """
        if self._signer is None:
            raise DirectOffError(
                "Direct uploads need an S3-compatible blob store, which this service lacks; "
                "send the file with POST /api/files/upload."
            )
        if not self._settings.direct:
            raise DirectOffError(
                "Direct uploads are disabled; send the file with POST /api/files/upload, "
                "or set WAYBILL_DIRECT=true."
            )
        return self._signer

    async def begin(
        self, asked: DirectUploadRequest, asker: Principal, *, key: str | None = None
    ) -> tuple[PendingDirectUpload, str]:
        """Create a direct upload.

        Args:
            asked: The client's description of the file.
            asker: The caller.
            key: The Idempotency-Key; a repeat with the same key returns the same upload.

        Returns:
            The upload, and the signed URL to put the file to.

        Raises:
            RefusedError: The file would not be accepted.
        """
        signer = self.signer
        if asked.size > self._settings.max_file_size:
            raise TooLargeError(
                f"The file has {asked.size} bytes; the limit is {self._settings.max_file_size}."
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
            await self._blobs.create(f"{folder}/ticket.json", _PENDING.dump_json(direct_upload))
        return direct_upload, await signer.to_put(f"{folder}/content", lasts=URL_TTL)

    async def _check_number(self, folder: str, asker: Principal) -> None:
        """Enforce the per-owner limit on uploads whose URLs are still valid, across all pods."""
        limit = self._settings.owner_at_once
        if limit is None or asker.owner is None:
            return
        begun = await self._blobs.stored(f"{PREFIX}{owner_of(asker)}/")
        since = datetime.now(UTC) - URL_TTL
        others = [
            key
            for key, blob in begun.items()
            if key.endswith("/ticket.json") and blob.at > since and not key.startswith(folder)
        ]
        if len(others) >= limit:
            raise quota_error(
                f"You have {len(others)} incomplete direct uploads and the limit is {limit}: "
                "complete or DELETE one",
                CONCURRENCY_RETRY_AFTER,
            )

    async def _of_key(self, place: str, direct_upload: PendingDirectUpload) -> PendingDirectUpload:
        """Return the direct upload that the first request with this key created."""
        while not await self._blobs.create(place, _PENDING.dump_json(direct_upload)):
            try:
                first = _PENDING.validate_json(await self._blobs.get(place))
            except BlobMissingError:
                continue  # The key has just expired.
            if first.asked != direct_upload.asked:
                raise ReusedIdempotencyKeyError(
                    "This Idempotency-Key was used for another file; use a new key."
                )
            return replace(first, is_repeated=True)
        return direct_upload

    async def find(self, upload_id: str, asker: Principal) -> PendingDirectUpload:
        """Return a direct upload of the caller.

        Raises:
            UnknownUploadError: The caller has no such upload.
        """
        _ = self.signer
        if file_id_age(upload_id, datetime.now(UTC)) is None:
            raise UnknownUploadError
        folder = _folder(upload_id, asker)
        try:
            return _PENDING.validate_json(await self._blobs.get(f"{folder}/ticket.json"))
        except BlobMissingError as error:
            if (done := await self._done(folder)) is None:
                raise UnknownUploadError from error
            return done

    async def _done(self, folder: str) -> PendingDirectUpload | None:
        try:
            return _PENDING.validate_json(await self._blobs.get(f"{folder}/done.json"))
        except BlobMissingError:
            return None

    async def complete(self, direct_upload: PendingDirectUpload, asker: Principal) -> StoredFile:
        """Complete a direct upload. On return, the file is stored and recorded like any upload.

        Raises:
            NothingPutError: The client has put no file.
            LengthMismatchError: The size differs from the announced one; the client can put the
                file again.
            RefusedError: The file is rejected and deleted.
            UnavailableError: A dependency does not answer; the client can retry.
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
        record = _PENDING.dump_json(replace(direct_upload, file=file))
        await self._blobs.put(f"{folder}/done.json", record)
        for name in ("ticket.json", "content"):
            await self._blobs.delete(f"{folder}/{name}")
        return file

    async def _copy(self, direct_upload: PendingDirectUpload, content: str) -> None:
        """Copy the file to its final key if its size is the announced one."""
        self._check_size(direct_upload, await self._blobs.size(content))
        place = source_key(direct_upload.id)
        await self._blobs.copy(content, place)
        try:
            self._check_size(direct_upload, await self._blobs.size(place))
        except LengthMismatchError:  # The client has put another file in the meantime.
            await self._blobs.delete(place)
            raise

    def _check_size(self, direct_upload: PendingDirectUpload, size: int) -> None:
        if size != direct_upload.asked.size:
            raise LengthMismatchError(
                f"The file has {size} bytes, but {direct_upload.asked.size} were announced; "
                "put the file again."
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
        """Delete a direct upload. A file that was already accepted is kept."""
        await self._forget(_folder(direct_upload.id, asker))

    async def _forget(self, folder: str) -> None:
        for name in ("ticket.json", "done.json", "content"):
            await self._blobs.delete(f"{folder}/{name}")

    async def sweep(self) -> int:
        """Delete direct uploads that were not completed within a day.

        Returns:
            The number of deleted uploads.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        return await sweep_folders(self._blobs, PREFIX)
