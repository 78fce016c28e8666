"""The outcome of an upload request: accepted and rejected files."""

from dataclasses import dataclass

from shared.blobs.places import source_key


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in the blob store that is not recorded yet."""

    file_id: str
    name: str
    size: int
    content_type: str
    charset: str | None = None
    """Character encoding of a text; None if unknown."""
    sha256: str | None
    """Hash in hexadecimal digits; None for a direct upload that was announced without it."""
    blob: str | None = None
    """Key in the blob store; None for the key derived from the file's id."""
    deduplicated: bool = False
    """True for an earlier file with the same content; nothing new was stored."""

    @property
    def key(self) -> str:
        """The key in the blob store."""
        return self.blob or source_key(self.file_id)


@dataclass(frozen=True, kw_only=True)
class RefusedFile:
    """A rejected file of a batch in which other files were accepted."""

    index: int
    """Position among the files of the request, from 0."""
    name: str
    status: int
    code: str
    title: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The stored files of one request, to be recorded together."""

    files: list[StoredFile]
    tenant: str | None = None
    owner: str | None = None
    """Owner of the files; None without authentication."""
    labels: dict[str, str]
    batch_id: str | None
    """Id shared by several files of one request; None for a single file."""
    refused: tuple[RefusedFile, ...] = ()
    """Rejected files of the same request; nothing of them is stored."""
    replayed: bool = False
    """True if this is the outcome of an earlier request with the same Idempotency-Key."""
