"""Concatenation of tus: several uploads side by side, which together become one file.

A client marks uploads as partial, brings them over as many connections, and asks for a final one
that names them in order. The first of them remembers for which final upload it was: who asks again,
as the answer was lost, gets that one.
"""

from dataclasses import dataclass

from shared.errors import BadParameterError
from shared.events.ids import canonical_id

PARTIAL = "partial"
FINAL = "final"

MOST = 100
"""Uploads that one file may be made of; clients use as many as they have connections, some six."""


@dataclass(frozen=True)
class Concat:
    """What `Upload-Concat` says."""

    header: str
    """As it came, to be told again."""
    of: tuple[str, ...] = ()
    """The ids of the partial uploads of a final one; none of a partial one."""

    @property
    def is_partial(self) -> bool:
        return not self.of

    @classmethod
    def read(cls, header: str) -> "Concat":
        """From `Upload-Concat`.

        Raises:
            BadParameterError: it is neither `partial` nor `final;` with addresses of uploads.
        """
        if header == PARTIAL:
            return cls(header)
        kind, _, addresses = header.partition(";")
        of = tuple(canonical_id(each.rpartition("/")[2]) for each in addresses.split())
        if kind != FINAL or not all(of) or not 1 <= len(of) <= MOST:
            raise BadParameterError(
                "Upload-Concat is `partial`, or `final;` and the addresses of 1 to "
                f"{MOST} partial uploads, separated by spaces."
            )
        if len(set(of)) < len(of):
            raise BadParameterError("Upload-Concat names an upload twice.")
        return cls(header, of)
