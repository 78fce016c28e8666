"""What a client gets for its files, as data."""

from dataclasses import dataclass

from shared.blobs.places import source_key


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in the blob store, not yet known to anybody."""

    file_id: str
    name: str
    size: int
    content_type: str
    charset: str | None = None
    """The encoding of a text, if it is known."""
    sha256: str | None
    """None if it did not pass through here, and nobody told."""
    blob: str | None = None
    """Its key in the blob store; None stands for the one that follows from its id."""
    deduplicated: bool = False
    """Whether it is an earlier one, in whose place nothing new was stored."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return self.blob or source_key(self.file_id)


@dataclass(frozen=True, kw_only=True)
class RefusedFile:
    """A file of a batch that was not acceptable, beside others that were."""

    index: int
    """Its place among the files of the request, from 0."""
    name: str
    status: int
    code: str
    title: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Files of one request that are stored, to be recorded together."""

    files: list[StoredFile]
    tenant: str | None = None
    owner: str | None = None
    """Whose they are; None if nobody is told from anybody else."""
    labels: dict[str, str]
    batch_id: str | None
    """What several files of one request share; None for a single one."""
    refused: tuple[RefusedFile, ...] = ()
    """Files of the same request that were not acceptable; nothing of them is kept."""
    replayed: bool = False
    """Whether an earlier request with the same Idempotency-Key was accepted as this."""
