"""Which files a user may see, for queries in MongoDB and for every state that is delivered."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from services.status.projection.projection import Status
from shared.auth.accesserrors import ForbiddenError
from shared.auth.principal import Principal


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """The files that a user may see. All others look to the user as if they did not exist."""

    everything: bool = False
    tenant: str | None = None
    """Only files of this tenant. None stands for files without a tenant."""
    owner: str | None = None
    """Only files of this owner, or shared with them. None for all files of the tenant."""
    shared: bool = True
    """True if files shared with the user are included."""
    until: float | None = None
    """Unix seconds at which the user's credential expires. Live connections end then."""
    api_key: str | None = None
    """The id of the user's API key. Live connections end when it is revoked."""

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """Return what a principal may see.

        An admin sees everything, an operator the files of the tenant, a user their own files and
        those shared with them.
        """
        return cls(
            everything=principal.is_admin,
            tenant=principal.tenant,
            owner=None if principal.is_operator else principal.subject,
            until=principal.expires_at,
            api_key=principal.api_key,
        )

    @property
    def own(self) -> Self:
        """The same without files that are only shared with the user."""
        return replace(self, shared=False)

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the user's credential expires; infinite if it never does.

        Args:
            now: Unix seconds.
        """
        return math.inf if self.until is None else max(0.0, self.until - now)

    def permits(self, status: Status) -> bool:
        """Return True if the user may see a file.

        Until its upload event is known, the owner is unknown and only an admin may see it.
        """
        if self.everything:
            return True
        return (
            status.created_at is not None
            and status.tenant == self.tenant
            and (
                self.owner in (None, status.owner)
                or (self.shared and bool(status.shares) and self._is_lent(status))
            )
        )

    def _is_lent(self, status: Status) -> bool:
        return any(share.reader == self.owner for share in status.shares)

    def require_own(self, status: Status) -> None:
        """Check that a user who may read a file may also change it.

        Raises:
            ForbiddenError: the file is only shared with the user.
        """
        if not self.own.permits(status):
            raise ForbiddenError("The file is shared with you for reading only.")

    def conditions(self, *, by_reader: bool = True) -> dict[str, Any]:
        """Return the same rule as a MongoDB filter.

        Args:
            by_reader: True to find the files by the indexes of owner and reader. Otherwise the
                filter is phrased so that MongoDB walks another index in order and checks each file.
        """
        if self.everything:
            return {}
        if self.owner is None:
            return {"tenant": self.tenant, "created_at": {"$ne": None}}
        owned = {"owner": self.owner}  # Only the upload event sets it.
        if not self.shared:
            return {"tenant": self.tenant, **owned}
        known = {"tenant": self.tenant, "created_at": {"$ne": None}}
        if by_reader:
            return {**known, "$or": [owned, {"shares.reader": self.owner}]}
        strangers = {"owner": {"$ne": self.owner}, "shares.reader": {"$ne": self.owner}}
        return {**known, "$nor": [strangers]}


EVERYTHING = Visibility(everything=True)
"""The visibility of this service itself."""
