"""What the events of a file are made of: frozen values that are told in several of them."""

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
