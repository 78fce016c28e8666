"""The tus concatenation extension: parallel uploads that together become one file.

A client marks uploads as partial, sends them over parallel connections, and creates a final upload
that lists them in order. The first partial upload remembers its final upload. If the answer was
lost, a repeat returns the same one.
"""

from dataclasses import dataclass

from shared.errors import BadParameterError
from shared.events.ids import canonical_id

PARTIAL = "partial"
FINAL = "final"

MAX_PARTIAL_UPLOADS = 100
"""Maximum partial uploads of one file. Clients use one per connection, about six."""


@dataclass(frozen=True)
class Concat:
    """A parsed `Upload-Concat` header."""

    header: str
    """The unparsed value, returned by HEAD."""
    of: tuple[str, ...] = ()
    """Ids of the partial uploads, in order; empty for a partial upload."""

    @property
    def is_partial(self) -> bool:
        return not self.of

    @classmethod
    def parse(cls, header: str) -> "Concat":
        """Parse `Upload-Concat`.

        Raises:
            BadParameterError: The value is neither `partial` nor `final;` with upload URLs.
        """
        if header == PARTIAL:
            return cls(header)
        kind, _, addresses = header.partition(";")
        of = tuple(canonical_id(each.rpartition("/")[2]) for each in addresses.split())
        if kind != FINAL or not all(of) or not 1 <= len(of) <= MAX_PARTIAL_UPLOADS:
            raise BadParameterError(
                "The Upload-Concat is malformed; send `partial`, or `final;` and the URLs of 1 to "
                f"{MAX_PARTIAL_UPLOADS} partial uploads, separated by spaces."
            )
        if len(set(of)) < len(of):
            raise BadParameterError("Upload-Concat contains an upload twice; list each one once.")
        return cls(header, of)
