"""The errors that Waybill raises, sorted by what the caller must do.

    WaybillError
    ├── RefusedError             the request is invalid: change it before you retry
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
    │   ├── AccessError              the caller has no access: `shared/auth/accesserrors.py`
    │   └── DeletedFileError                410
    ├── UnavailableError         a dependency is unavailable: retry the same request later
    │   ├── KafkaUnavailableError           503
    │   ├── MongoUnavailableError           503
    │   ├── BlobStoreUnavailableError       503
    │   │   └── StorageFullError            507
    │   ├── KeysUnavailableError            503
    │   ├── CatchingUpError                 503
    │   └── OverloadedError                 503
    ├── EventTooLargeError       the event exceeds Kafka's size limit: send less data
    └── WorkError                processing a file failed: `shared/workerrors.py`

The docstring of a class is its message. `code` is stable, and clients may branch on it.
"""

from collections.abc import Mapping
from typing import ClassVar


class WaybillError(Exception):
    """Waybill failed unexpectedly."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retry_after: int | None = None
    """Seconds after which a client may retry the same request; None if a retry cannot succeed."""
    challenge: ClassVar[str | None] = None
    """The `WWW-Authenticate` header for clients that must authenticate (RFC 6750)."""

    detail_is_public: ClassVar[bool] = False
    """True if clients receive the detail. A private detail may name hosts, ports and paths of the
    installation: it goes to the log, and clients receive the title."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        members: Mapping[str, object] | None = None,
        public: bool | None = None,
    ) -> None:
        """Create an error. `public` (default: `detail_is_public`) lets clients see the detail."""
        self.title = (type(self).__doc__ or "").split("\n", 1)[0]
        self.detail = detail or self.title
        self.members = dict(members or {})
        """Additional members of the problem document."""
        is_public = public if public is not None else self.detail_is_public or bool(members)
        self.public_detail = self.detail if is_public else self.title
        """The detail that clients receive."""
        super().__init__(self.detail)


class RefusedError(WaybillError):
    """The request is invalid."""

    code = "refused"
    status = 400
    detail_is_public = True


class NoFileError(RefusedError):
    """The request contains no file."""

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
    """The multipart body is malformed."""

    code = "broken_multipart"


class LengthMismatchError(RefusedError):
    """The length of the body differs from its Content-Length."""

    code = "length_mismatch"


class StalledUploadError(RefusedError):
    """The upload stalled before it was complete."""

    code = "stalled"
    status = 408


class AllowanceError(RefusedError):
    """The owner has exceeded the upload limit for this period."""

    code = "allowance_used_up"
    status = 429


class UnknownUploadError(RefusedError):
    """No upload with this id is in progress: it is complete, has expired, or never existed."""

    code = "unknown_upload"
    status = 404


class OffsetConflictError(RefusedError):
    """The request does not start at the upload's current offset."""

    code = "offset_conflict"
    status = 409


class ChecksumMismatchError(RefusedError):
    """The checksum does not match the received bytes."""

    code = "checksum_mismatch"
    status = 460


class TusVersionError(RefusedError):
    """Resumable uploads require version 1.0.0 of tus: send `Tus-Resumable: 1.0.0`."""

    code = "tus_version"
    status = 412


class BadIdempotencyKeyError(RefusedError):
    """The Idempotency-Key is invalid."""

    code = "bad_idempotency_key"


class ReusedIdempotencyKeyError(RefusedError):
    """The Idempotency-Key was already used for a different request."""

    code = "idempotency_key_reused"
    status = 422


class BadParameterError(RefusedError):
    """A parameter of the request has an invalid value."""

    code = "bad_parameter"
    status = 422


class TooWideSearchError(RefusedError):
    """The search would read too many files: narrow it by owner, batch, label, status or time."""

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
    """This service does not send requests to this address."""

    code = "forbidden_address"
    status = 422


class FetchFailedError(RefusedError):
    """The file could not be fetched from the address."""

    code = "fetch_failed"
    status = 422


class FetchingOffError(RefusedError):
    """Fetching files by URL is disabled on this service."""

    code = "fetching_off"
    status = 403


class DirectOffError(RefusedError):
    """Direct uploads are disabled on this service."""

    code = "direct_off"
    status = 403


class NothingPutError(RefusedError):
    """The file is not in the store: upload it to its signed URL first."""

    code = "nothing_put"
    status = 409


class UnknownArtifactError(RefusedError):
    """The file has no artifact with this name."""

    code = "unknown_artifact"
    status = 404


class PreconditionFailedError(RefusedError):
    """The content does not match the precondition of the request."""

    code = "precondition_failed"
    status = 412


class RangeNotSatisfiableError(RefusedError):
    """The requested range is outside the content."""

    code = "range_not_satisfiable"
    status = 416


class NoResultYetError(RefusedError):
    """The file has no result."""

    code = "no_result"
    status = 409


class NotCancellableError(RefusedError):
    """The file has reached a final status and cannot be cancelled."""

    code = "not_cancellable"
    status = 409


class NotRetryableError(RefusedError):
    """The file cannot be processed again."""

    code = "not_retryable"
    status = 409


class LegalHoldError(RefusedError):
    """The file is under legal hold and cannot be deleted."""

    code = "legal_hold"
    status = 409


class UnknownDeadLetterError(RefusedError):
    """No dead letter has this id."""

    code = "unknown_dead_letter"
    status = 404


class NotRedrivableError(RefusedError):
    """The dead letter cannot be redriven."""

    code = "not_redrivable"
    status = 409


class DeletedFileError(RefusedError):
    """The file was deleted."""

    code = "deleted"
    status = 410


class UnavailableError(WaybillError):
    """A dependency of Waybill is unavailable."""

    code = "unavailable"
    status = 503
    retry_after = 5


class KafkaUnavailableError(UnavailableError):
    """Kafka is unavailable."""

    code = "kafka_unavailable"


class MongoUnavailableError(UnavailableError):
    """MongoDB is unavailable."""

    code = "mongodb_unavailable"


class BlobStoreUnavailableError(UnavailableError):
    """The blob store is unavailable."""

    code = "blob_store_unavailable"


class StorageFullError(BlobStoreUnavailableError):
    """The blob store is full: retry once its operator has freed space."""

    code = "storage_full"
    status = 507
    retry_after = 60


class KeysUnavailableError(UnavailableError):
    """The keys to verify tokens are unavailable."""

    code = "keys_unavailable"


class CatchingUpError(UnavailableError):
    """This pod has just started and is still catching up with the log."""

    code = "catching_up"
    detail_is_public = True
    retry_after = 1


class OverloadedError(UnavailableError):
    """The service has reached its capacity limit."""

    code = "overloaded"
    detail_is_public = True


class EventTooLargeError(WaybillError):
    """The event exceeds Kafka's size limit."""

    code = "event_too_large"
