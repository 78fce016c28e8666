"""Every error that Waybill raises on purpose, sorted by what the caller must do.

    WaybillError
    ├── RefusedError             the request is wrong: change it, then send it again
    │   ├── NoFileError                     422
    │   ├── EmptyFileError                  422
    │   ├── TooLargeError                   413
    │   ├── ForbiddenTypeError              415
    │   ├── BrokenMultipartError            400
    │   ├── LengthMismatchError             400
    │   ├── StalledUploadError              408
    │   ├── AllowanceError                  429
    │   ├── UnknownUploadError              404
    │   ├── OffsetConflictError             409
    │   ├── ChecksumMismatchError           460
    │   ├── TusVersionError                 412
    │   ├── BadIdempotencyKeyError          400
    │   ├── ReusedIdempotencyKeyError       422
    │   ├── BadParameterError               422
    │   ├── TooWideSearchError              422
    │   ├── UnknownFileError                404
    │   ├── UnknownBatchError               404
    │   ├── UnknownShareError               404
    │   ├── UnknownWebhookError             404
    │   ├── ForbiddenAddressError           422
    │   ├── FetchFailedError                422
    │   ├── FetchingOffError                403
    │   ├── DirectOffError                  403
    │   ├── NothingPutError                 409
    │   ├── UnknownArtifactError            404
    │   ├── PreconditionFailedError         412
    │   ├── RangeNotSatisfiableError        416
    │   ├── NoResultYetError                409
    │   ├── NotCancellableError             409
    │   ├── NotRetryableError               409
    │   ├── LegalHoldError                  409
    │   ├── UnknownDeadLetterError          404
    │   ├── NotRedrivableError              409
    │   ├── AccessError              who asks may not: `shared/auth/accesserrors.py`
    │   └── DeletedFileError                410
    ├── UnavailableError         a part we lean on does not answer: send the same again later
    │   ├── KafkaUnavailableError           503
    │   ├── MongoUnavailableError           503
    │   ├── BlobStoreUnavailableError       503
    │   │   └── StorageFullError            507
    │   ├── KeysUnavailableError            503
    │   ├── CatchingUpError                 503
    │   └── OverloadedError                 503
    ├── EventTooLargeError       what is to be recorded is larger than Kafka takes: say less
    └── WorkError                the work on a file went wrong: `shared/workerrors.py`

The docstring of a class is its message; `code` is stable and clients may branch on it.
"""

from collections.abc import Mapping
from typing import ClassVar


class WaybillError(Exception):
    """Something went wrong in Waybill."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retry_after: int | None = None
    """Seconds after which the same request is worth another try; None where it is not."""
    challenge: ClassVar[str | None] = None
    """What `WWW-Authenticate` says to who must prove who they are (RFC 6750)."""

    detail_is_public: ClassVar[bool] = False
    """Whether clients are told the detail. Where it is not, it may name hosts, ports and paths of
    the installation: it goes to the log, and clients are told the title."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        members: Mapping[str, object] | None = None,
        public: bool | None = None,
    ) -> None:
        """`public` says whether clients are told this detail; by default the class says so."""
        self.title = (type(self).__doc__ or "").split("\n", 1)[0]
        self.detail = detail or self.title
        self.members = dict(members or {})
        """What the problem document says beyond its usual members."""
        is_public = public if public is not None else self.detail_is_public or bool(members)
        self.public_detail = self.detail if is_public else self.title
        """What clients are told."""
        super().__init__(self.detail)


class RefusedError(WaybillError):
    """The request is wrong."""

    code = "refused"
    status = 400
    detail_is_public = True


class NoFileError(RefusedError):
    """The request carries no file."""

    code = "no_file"
    status = 422


class EmptyFileError(RefusedError):
    """The file is empty."""

    code = "empty_file"
    status = 422


class TooLargeError(RefusedError):
    """The file is larger than this service accepts."""

    code = "too_large"
    status = 413


class ForbiddenTypeError(RefusedError):
    """This service does not accept files of this type."""

    code = "forbidden_type"
    status = 415


class BrokenMultipartError(RefusedError):
    """The multipart body is broken."""

    code = "broken_multipart"


class LengthMismatchError(RefusedError):
    """The body is not as long as its Content-Length says."""

    code = "length_mismatch"


class StalledUploadError(RefusedError):
    """The upload stopped half way."""

    code = "stalled"
    status = 408


class AllowanceError(RefusedError):
    """The owner has uploaded as much as is allowed in a time."""

    code = "allowance_used_up"
    status = 429


class UnknownUploadError(RefusedError):
    """There is no upload of this id under way: it ended, expired, or never was."""

    code = "unknown_upload"
    status = 404


class OffsetConflictError(RefusedError):
    """The upload does not go on where this request begins."""

    code = "offset_conflict"
    status = 409


class ChecksumMismatchError(RefusedError):
    """The bytes are not those that the checksum tells of."""

    code = "checksum_mismatch"
    status = 460


class TusVersionError(RefusedError):
    """Resumable uploads speak version 1.0.0 of tus: send `Tus-Resumable: 1.0.0`."""

    code = "tus_version"
    status = 412


class BadIdempotencyKeyError(RefusedError):
    """The Idempotency-Key cannot be used."""

    code = "bad_idempotency_key"


class ReusedIdempotencyKeyError(RefusedError):
    """The Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"
    status = 422


class BadParameterError(RefusedError):
    """A parameter of the request has a value that cannot be used."""

    code = "bad_parameter"
    status = 422


class TooWideSearchError(RefusedError):
    """The search reads too many files: narrow it by owner, batch, label, status or time."""

    code = "search_too_wide"
    status = 422


class UnknownFileError(RefusedError):
    """No file has this id."""

    code = "unknown_file"
    status = 404


class UnknownShareError(RefusedError):
    """The file is not shared with this person."""

    code = "unknown_share"
    status = 404


class UnknownBatchError(RefusedError):
    """No batch has this id."""

    code = "unknown_batch"
    status = 404


class UnknownWebhookError(RefusedError):
    """No webhook has this id."""

    code = "unknown_webhook"
    status = 404


class ForbiddenAddressError(RefusedError):
    """The address is not one that this service sends to."""

    code = "forbidden_address"
    status = 422


class FetchFailedError(RefusedError):
    """The file cannot be had from the address."""

    code = "fetch_failed"
    status = 422


class FetchingOffError(RefusedError):
    """This service fetches no files."""

    code = "fetching_off"
    status = 403


class DirectOffError(RefusedError):
    """This service has no store that clients can write to."""

    code = "direct_off"
    status = 403


class NothingPutError(RefusedError):
    """The file is not in the store: put it to its address first."""

    code = "nothing_put"
    status = 409


class UnknownArtifactError(RefusedError):
    """The file has no artifact of this name."""

    code = "unknown_artifact"
    status = 404


class PreconditionFailedError(RefusedError):
    """The content is not the one that the request names."""

    code = "precondition_failed"
    status = 412


class RangeNotSatisfiableError(RefusedError):
    """The content has no such bytes."""

    code = "range_not_satisfiable"
    status = 416


class NoResultYetError(RefusedError):
    """The file has no result."""

    code = "no_result"
    status = 409


class NotCancellableError(RefusedError):
    """There is no work on the file that could be cancelled."""

    code = "not_cancellable"
    status = 409


class NotRetryableError(RefusedError):
    """The file is not one that can be worked on again."""

    code = "not_retryable"
    status = 409


class LegalHoldError(RefusedError):
    """The file must be kept."""

    code = "legal_hold"
    status = 409


class UnknownDeadLetterError(RefusedError):
    """There is no such dead letter."""

    code = "unknown_dead_letter"
    status = 404


class NotRedrivableError(RefusedError):
    """The dead letter cannot be given another chance."""

    code = "not_redrivable"
    status = 409


class DeletedFileError(RefusedError):
    """The file was deleted."""

    code = "deleted"
    status = 410


class UnavailableError(WaybillError):
    """A part of Waybill does not answer."""

    code = "unavailable"
    status = 503
    retry_after = 5


class KafkaUnavailableError(UnavailableError):
    """Kafka does not answer."""

    code = "kafka_unavailable"


class MongoUnavailableError(UnavailableError):
    """MongoDB does not answer."""

    code = "mongodb_unavailable"


class BlobStoreUnavailableError(UnavailableError):
    """The blob store does not answer."""

    code = "blob_store_unavailable"


class StorageFullError(BlobStoreUnavailableError):
    """The blob store is full: send the same again once its operator has made room."""

    code = "storage_full"
    status = 507
    retry_after = 60


class KeysUnavailableError(UnavailableError):
    """The keys that tokens are signed with cannot be had."""

    code = "keys_unavailable"


class CatchingUpError(UnavailableError):
    """This pod has just started and does not know the present yet."""

    code = "catching_up"
    detail_is_public = True
    retry_after = 1


class OverloadedError(UnavailableError):
    """The service has as many requests in work as it can bear."""

    code = "overloaded"
    detail_is_public = True


class EventTooLargeError(WaybillError):
    """The event is larger than Kafka takes."""

    code = "event_too_large"
