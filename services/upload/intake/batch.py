"""Track which files of a request are accepted, and why others are rejected."""

from collections.abc import Iterable

from services.upload.body.body import IncomingFile
from services.upload.body.names import UNNAMED
from services.upload.intake.accepted import RefusedFile, StoredFile
from shared.errors import (
    BadParameterError,
    EmptyFileError,
    ForbiddenTypeError,
    NoFileError,
    RefusedError,
    TooLargeError,
)

ALLOW_EMPTY = "allow_empty"
"""Form field or query parameter that accepts files without content."""

ATOMIC = "atomic"
"""Form field or query parameter that accepts all files of a request or none."""

EMPTY = f"The file is empty; send a file with content, or `{ALLOW_EMPTY}=true` to accept it."

PER_FILE = (ForbiddenTypeError, TooLargeError)
"""Errors that concern a single file of a request. `EmptyFileError` is handled separately."""

MAX_SKIPPED = 64 << 20
"""Bytes of a rejected file that are skipped to reach the next one. If more are left, and no file
was accepted before, the whole request is rejected."""


def is_set(option: str, fields: Iterable[tuple[str, str]]) -> bool:
    """Return True if an option is `true`. The last of equal fields wins.

    Raises:
        BadParameterError: The value is neither `true` nor `false`.
    """
    asked = dict(fields).get(option, "false")
    if asked not in ("true", "false"):
        raise BadParameterError(
            f"The field {option!r} is {asked[:80]!r}; it must be `true` or `false`."
        )
    return asked == "true"


class Batch:
    """The outcome of each file so far, in the order of the request."""

    def __init__(self) -> None:
        self._count = 0
        self._stored: dict[int, StoredFile] = {}
        self._refused: dict[int, tuple[str, RefusedError]] = {}
        self._empty: dict[int, tuple[IncomingFile, EmptyFileError]] = {}

    @property
    def stored(self) -> list[StoredFile]:
        """The stored files, in the order of the request."""
        return [file for _, file in sorted(self._stored.items(), key=lambda each: each[0])]

    @property
    def is_batch(self) -> bool:
        """True if the request carried several files."""
        return len(self._stored) + len(self._refused) > 1

    @property
    def refused_files(self) -> list[RefusedFile]:
        """The rejected files with their reasons, in the order of the request."""
        return [
            RefusedFile(
                index=place,
                name=name,
                status=error.status,
                code=error.code,
                title=error.title,
                detail=error.detail,
            )
            for place, (name, error) in sorted(self._refused.items(), key=lambda each: each[0])
        ]

    def accept(self, file: StoredFile, place: int | None = None) -> None:
        """Record that a file is stored.

        Args:
            file: The stored file.
            place: Position in the request; None for the next one.
        """
        self._stored[self._next() if place is None else place] = file

    async def refuse(self, file: IncomingFile, error: RefusedError) -> None:
        """Record that a file is rejected, and skip the rest of its content.

        Raises:
            RefusedError: `error` itself, if no other file can follow or too much content is left.
        """
        if not self._stored and not (file.is_part and await _skip_rest(file)):
            raise error
        self._refused[self._next()] = (file.name, error)

    def defer_empty(self, file: IncomingFile, error: EmptyFileError) -> None:
        """Record an empty file. A later form field may still allow it."""
        if file.chosen:  # Browsers send an empty, nameless part if no file is chosen.
            self._empty[self._next()] = (file, error)

    def take_empty(self, *, allowed: bool) -> list[tuple[int, IncomingFile]]:
        """Return the empty files to store, with their positions; reject them if not allowed."""
        empty, self._empty = self._empty, {}
        if allowed:
            return [(place, file) for place, (file, _) in empty.items()]
        for place, (file, error) in empty.items():
            if file.name != UNNAMED:  # An unnamed empty file is an empty request body.
                self._refused[place] = (file.name, error)
        return []

    def check(self, *, atomic: bool) -> None:
        """Check that the request has a file to accept.

        Args:
            atomic: True to accept all files or none.

        Raises:
            RefusedError: There is nothing to accept. The error is that of the first rejected file.
        """
        if self._refused and (atomic or not self._stored):
            _, error = self._refused[min(self._refused)]
            if self.is_batch:
                error.members = {**error.members, "refused": problem_documents(self.refused_files)}
            raise error
        if not self._stored:
            raise NoFileError(
                "The request contains no file; send it in a multipart part named `file`, "
                "or as the raw body."
            )

    def _next(self) -> int:
        self._count += 1
        return self._count - 1


async def _skip_rest(file: IncomingFile) -> bool:
    """Skip the rest of a file; return False if it exceeds `MAX_SKIPPED` bytes."""
    read = 0
    while read <= MAX_SKIPPED:
        piece = await file.read()
        if not piece:
            return True
        read += len(piece)
    return False


def problem_documents(refused: Iterable[RefusedFile]) -> list[dict[str, object]]:
    """Return rejected files as problem documents with the name of the file."""
    return [{"type": f"urn:waybill:problem:{each.code}", **vars(each)} for each in refused]
