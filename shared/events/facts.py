"""The frozen value classes that event data consists of."""

from enum import StrEnum
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.events.storable import MAX_INT, checked_mapping

M = TypeVar("M", bound=BaseModel)


def assembled(model: type[M], fields: dict[str, Any]) -> M:
    """Return an instance of a model without validation.

    Pydantic's own constructors take three to ten times as long, and store a set of field names per
    instance.

    Args:
        fields: all fields of the model, in order, with valid values.
    """
    made = model.__new__(model)
    set_ = object.__setattr__  # Frozen models allow no other way.
    set_(made, "__dict__", fields)
    set_(made, "__pydantic_fields_set__", _names_of(model))
    set_(made, "__pydantic_extra__", None)
    set_(made, "__pydantic_private__", None)
    return made


@cache
def _names_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


Count = Annotated[int, Field(ge=0, le=MAX_INT)]
"""A count within the integer range of MongoDB."""

Storable = AfterValidator(checked_mapping)
"""A mapping whose keys and values can be stored. Other mappings make an event unreadable."""


class Fact(BaseModel):
    """Base class of event data: frozen, and tolerant of unknown fields.

    Values that cannot be stored are rejected on parsing, so that all readers agree.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Progress(Fact):
    """Progress of one phase of processing, in units that the step chooses."""

    done: Count
    total: Count


class Extent(Protocol):
    """The common fields of progress in events and in documents."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...


E = TypeVar("E", bound=Extent)


def furthest(known: E | None, reported: E) -> E:
    """Return the greater progress, so that progress never decreases when reports are reordered.

    If both are equal, the one with the finer unit is returned.
    """
    return reported if known is None or _extent(reported) >= _extent(known) else known


def _extent(progress: Extent) -> tuple[float, int, int]:
    done, total = progress.done, progress.total
    return (min(done, total) / total if total else 0.0, total, done)


class Failure(Fact):
    """The reason why an attempt failed."""

    code: str
    message: str
    retryable: bool


class Artifact(Fact):
    """One stored result of processing, served under `/api/files/{id}/artifacts/{name}`."""

    name: str
    content_type: str
    size: Count = Field(description="bytes")


class Result(Fact):
    """The results of processing: statistics and artifacts."""

    prefix: str = Field(description="key prefix of the artifacts in the blob store")
    artifacts: tuple[Artifact, ...] = ()
    statistics: Annotated[dict[str, int | float | str | bool | None], Storable] = Field(
        default_factory=dict
    )


class Source(Fact):
    """The stored file, with all that a processor needs to process it."""

    blob: str = Field(description="key in the blob store")
    content_type: str
    size: Count = Field(description="bytes")
    sha256: str | None = Field(
        default=None,
        description="SHA-256 of the content; null if the whole content has not been read yet",
    )


class Reader(Fact):
    """A user of the file's tenant with whom the file is shared, or no longer shared."""

    command_id: str = Field(description="id of the command that caused the event")
    reader: str = Field(description="the user, as named by the token's `sub`")

    @property
    def key(self) -> str:
        """Return a hash of the reader's name; see `reader_key`."""
        return reader_key(self.reader)


def reader_key(reader: str) -> str:
    """Return a hash of fixed length that identifies a reader in record keys without the name."""
    return blake2b(reader.encode(), digest_size=8).hexdigest()


class DeadCode(StrEnum):
    """The reason why a record was dead-lettered."""

    UNREADABLE = "unreadable"
    UNKNOWN_VERSION = "unknown_version"
    UNSTORABLE = "unstorable"
    UNPROCESSABLE = "unprocessable"
    GIVEN_UP = "given_up"


class DeadData(Fact):
    """A dead-lettered record and its position."""

    topic: str
    partition: int
    offset: int
    reason: str
    payload: str = Field(
        description="the record's value in base64; empty for `given_up`, because it is personal"
    )
    code: str = Field(
        default=DeadCode.UNREADABLE.value,
        description="`unreadable`, `unknown_version`, `unstorable` (MongoDB rejects it), "
        "`unprocessable` (a consumer failed on it repeatedly) or `given_up` (all attempts at "
        "the file failed)",
    )
    size: int | None = Field(
        default=None,
        description="bytes of the record's value; `payload` is truncated if the value is too long",
    )
    error_code: str | None = Field(
        default=None, description="error code of the last attempt, for `given_up`"
    )
    run: int | None = Field(default=None, description="the failed run, for `given_up`")
    attempt: int | None = Field(default=None, description="the last attempt, for `given_up`")
