"""The files of one request: which are acceptable, and why the others are not."""

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
"""The form field or query parameter that accepts files without content."""

ATOMIC = "atomic"
"""The form field or query parameter that accepts all files of a request or none."""

EMPTY = f"The file is empty; send a file with content, or `{ALLOW_EMPTY}=true` to have it accepted."

PER_FILE = (ForbiddenTypeError, TooLargeError)
"""What concerns one file of a request, beside that it is empty."""

SKIPPED = 64 << 20
"""Bytes of a refused file that are read past to see whether others follow. If more are left, and no
file was accepted before it, the whole request is refused."""


def is_set(option: str, fields: Iterable[tuple[str, str]]) -> bool:
    """Whether an option is `true`; the last of equal fields counts.

    Raises:
        BadParameterError: it is neither `true` nor `false`.
    """
    asked = dict(fields).get(option, "false")
    if asked not in ("true", "false"):
        raise BadParameterError(f"The field {option!r} is `true` or `false`.")
    return asked == "true"


class Batch:
    """What became of each file so far, in the order of the request."""

    def __init__(self) -> None:
        self._count = 0
        self._stored: dict[int, StoredFile] = {}
        self._refused: dict[int, tuple[str, RefusedError]] = {}
        self._empty: dict[int, tuple[IncomingFile, EmptyFileError]] = {}

    @property
    def stored(self) -> list[StoredFile]:
        """The files that are stored."""
        return [file for _, file in sorted(self._stored.items(), key=lambda each: each[0])]

    @property
    def is_batch(self) -> bool:
        """Whether the request carried several files."""
        return len(self._stored) + len(self._refused) > 1

    @property
    def refused_files(self) -> list[RefusedFile]:
        """The files that are refused, and why."""
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
        """Note that a file is stored.

        Args:
            place: where it stood in the request; None for the next one.
        """
        self._stored[self._next() if place is None else place] = file

    async def refuse(self, file: IncomingFile, error: RefusedError) -> None:
        """Note that a file is not acceptable, and read past what is left of it.

        Raises:
            RefusedError: the same, where no other file can follow or too much is left of this one.
        """
        if not self._stored and not (file.is_part and await _read_past(file)):
            raise error
        self._refused[self._next()] = (file.name, error)

    def found_empty(self, file: IncomingFile, error: EmptyFileError) -> None:
        """Note that a file is empty; whether that is acceptable, a later field may tell."""
        if file.chosen:  # Browsers send a nameless, empty part of a form without a file chosen.
            self._empty[self._next()] = (file, error)

    def take_empty(self, *, allowed: bool) -> list[tuple[int, IncomingFile]]:
        """The empty files that are to be stored, with their places; others are refused."""
        empty, self._empty = self._empty, {}
        if allowed:
            return [(place, file) for place, (file, _) in empty.items()]
        for place, (file, error) in empty.items():
            if file.name != UNNAMED:  # Nothing at all, as the body of a request.
                self._refused[place] = (file.name, error)
        return []

    def check(self, *, atomic: bool) -> None:
        """Check that there is something to accept.

        Args:
            atomic: whether all files are to be accepted or none.

        Raises:
            RefusedError: there is not; the reason of the first file that is refused.
        """
        if self._refused and (atomic or not self._stored):
            _, error = self._refused[min(self._refused)]
            if self.is_batch:
                error.members = {**error.members, "refused": described(self.refused_files)}
            raise error
        if not self._stored:
            raise NoFileError(
                "Send the file in a multipart part named `file`, or as the whole body."
            )

    def _next(self) -> int:
        self._count += 1
        return self._count - 1


async def _read_past(file: IncomingFile) -> bool:
    """Read what is left of a file; False if that is more than `SKIPPED` bytes."""
    read = 0
    while read <= SKIPPED:
        piece = await file.read()
        if not piece:
            return True
        read += len(piece)
    return False


def described(refused: Iterable[RefusedFile]) -> list[dict[str, object]]:
    """Refused files as an answer tells of them: problem documents with the name of the file."""
    return [{"type": f"urn:waybill:problem:{each.code}", **vars(each)} for each in refused]
