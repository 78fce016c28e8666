"""What the events of a file are made of: frozen values."""

from enum import StrEnum
from hashlib import blake2b

from pydantic import BaseModel, ConfigDict, Field


class Fact(BaseModel):
    """Base of everything that is written into an event: frozen, tolerant of unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Progress(Fact):
    """How far one phase of the work has come, in units that the step chose."""

    done: int = Field(ge=0)
    total: int = Field(ge=0)


class Failure(Fact):
    """Why an attempt failed."""

    code: str
    message: str
    retryable: bool


class Artifact(Fact):
    """One stored result of the work, read under `/api/files/{id}/artifacts/{name}`."""

    name: str
    content_type: str
    size: int = Field(ge=0, description="bytes")


class Result(Fact):
    """What the work found: counts and the artifacts that hold the rest."""

    prefix: str = Field(description="where in the blob store the artifacts are")
    artifacts: tuple[Artifact, ...] = ()
    statistics: dict[str, int | float | str | bool | None] = Field(default_factory=dict)


class Source(Fact):
    """The stored file: all that a processor needs to work on it."""

    blob: str = Field(description="key in the blob store")
    content_type: str
    size: int = Field(ge=0, description="bytes")
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
        description="`unreadable`, `unknown_version` or `given_up`",
    )
    size: int | None = Field(
        default=None, description="bytes of the record's value; a longer one is cut in `payload`"
    )
    error_code: str | None = Field(default=None, description="of the last attempt, if given up")
    run: int | None = Field(default=None, description="that was given up")
    attempt: int | None = Field(default=None, description="the last one, if given up")
