"""What the events of a file are made of: frozen values."""

from enum import StrEnum
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.events.storable import MAX_INT, checked_mapping

M = TypeVar("M", bound=BaseModel)


def assembled(model: type[M], fields: dict[str, Any]) -> M:
    """An instance of a model that has these fields, all of them, in order, and in need of no check.

    Pydantic's own ways take three to ten times as long, and keep a set for each of the names of its
    fields.
    """
    made = model.__new__(model)
    set_ = object.__setattr__  # What is frozen has no other way.
    set_(made, "__dict__", fields)
    set_(made, "__pydantic_fields_set__", _names_of(model))
    set_(made, "__pydantic_extra__", None)
    set_(made, "__pydantic_private__", None)
    return made


@cache
def _names_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


Count = Annotated[int, Field(ge=0, le=MAX_INT)]
"""A number of something, within what MongoDB stores."""

Storable = AfterValidator(checked_mapping)
"""A mapping whose keys and values can be stored; others make an event unreadable, for everybody."""


class Fact(BaseModel):
    """Base of everything that is written into an event: frozen, tolerant of unknown fields.

    What cannot be stored is refused where it is read, so that all readers agree on it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Progress(Fact):
    """How far one phase of the work has come, in units that the step chose."""

    done: Count
    total: Count


class Extent(Protocol):
    """How far something has come: of progress in events as in documents."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...


E = TypeVar("E", bound=Extent)


def furthest(known: E | None, told: E) -> E:
    """Whichever has come further, so that progress never falls, in whatever order it is told.

    Of two that have come as far, the one that counts in smaller parts.
    """
    return told if known is None or _extent(told) >= _extent(known) else known


def _extent(progress: Extent) -> tuple[float, int, int]:
    done, total = progress.done, progress.total
    return (min(done, total) / total if total else 0.0, total, done)


class Failure(Fact):
    """Why an attempt failed."""

    code: str
    message: str
    retryable: bool


class Artifact(Fact):
    """One stored result of the work, read under `/api/files/{id}/artifacts/{name}`."""

    name: str
    content_type: str
    size: Count = Field(description="bytes")


class Result(Fact):
    """What the work found: counts and the artifacts that hold the rest."""

    prefix: str = Field(description="where in the blob store the artifacts are")
    artifacts: tuple[Artifact, ...] = ()
    statistics: Annotated[dict[str, int | float | str | bool | None], Storable] = Field(
        default_factory=dict
    )


class Source(Fact):
    """The stored file: all that a processor needs to work on it."""

    blob: str = Field(description="key in the blob store")
    content_type: str
    size: Count = Field(description="bytes")
    sha256: str | None = Field(
        default=None, description="of the content; none if nobody has read all of it yet"
    )


class Reader(Fact):
    """Somebody of the file's tenant who is allowed to read it, or no longer."""

    command_id: str = Field(description="of the command that asked for it")
    reader: str = Field(description="who, as their token names them")

    @property
    def key(self) -> str:
        """What stands for the reader where their name need not be."""
        return reader_key(self.reader)


def reader_key(reader: str) -> str:
    """What stands for a reader in the keys of records: the same for the same one, of one length."""
    return blake2b(reader.encode(), digest_size=8).hexdigest()


class DeadCode(StrEnum):
    """Why a record was put aside."""

    UNREADABLE = "unreadable"
    UNKNOWN_VERSION = "unknown_version"
    UNSTORABLE = "unstorable"
    UNPROCESSABLE = "unprocessable"
    GIVEN_UP = "given_up"


class DeadData(Fact):
    """A record that was put aside, and where it stood."""

    topic: str
    partition: int
    offset: int
    reason: str
    payload: str = Field(description="the record's value, base64; of `given_up` none, as personal")
    code: str = Field(
        default=DeadCode.UNREADABLE.value,
        description="`unreadable`, `unknown_version`, `unstorable` (MongoDB does not take it), "
        "`unprocessable` (a consumer failed on it again and again) or `given_up`",
    )
    size: int | None = Field(
        default=None, description="bytes of the record's value; a longer one is cut in `payload`"
    )
    error_code: str | None = Field(default=None, description="of the last attempt, if given up")
    run: int | None = Field(default=None, description="that was given up")
    attempt: int | None = Field(default=None, description="the last one, if given up")
