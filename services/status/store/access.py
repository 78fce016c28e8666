"""Whose files somebody may know of: asked of MongoDB, and of every state that is told."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from services.status.projection.projection import Status
from shared.auth.accesserrors import ForbiddenError
from shared.auth.principal import Principal


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """The files that somebody may know of; of all others they are told what is told of no file."""

    everything: bool = False
    tenant: str | None = None
    """Only of this tenant; None is a tenant as well, of those who have no other."""
    owner: str | None = None
    """Only of this owner, or shared with them; None for all of the tenant."""
    shared: bool = True
    """Whether what is shared with them counts."""
    until: float | None = None
    """Unix seconds from which on who they are must be proved anew: live connections end then."""
    api_key: str | None = None
    """The id of the API key that proves who they are: with it live connections end as well."""

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """What somebody sees: an admin everything, an operator their tenant's, a user their own
        and what is shared with them."""
        return cls(
            everything=principal.is_admin,
            tenant=principal.tenant,
            owner=None if principal.is_operator else principal.subject,
            until=principal.expires_at,
            api_key=principal.api_key,
        )

    @property
    def own(self) -> Self:
        """Those of the files that are not only shared with who asks."""
        return replace(self, shared=False)

    def seconds_left(self, now: float) -> float:
        """How long this holds.

        Args:
            now: Unix seconds.
        """
        return math.inf if self.until is None else max(0.0, self.until - now)

    def permits(self, status: Status) -> bool:
        """Whether a file may be known of.

        As long as its upload is not known, nobody can say whose it is.
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
        """Check that who may read a file may do more than that.

        Raises:
            ForbiddenError: it is only shared with them.
        """
        if not self.own.permits(status):
            raise ForbiddenError("The file is shared with you: you may read it, and no more.")

    def conditions(self, *, by_reader: bool = True) -> dict[str, Any]:
        """The same, in MongoDB's words.

        Args:
            by_reader: whether the files are to be found by who reads them. Otherwise the words are
                such that they are looked at in the order of another index.
        """
        if self.everything:
            return {}
        if self.owner is None:
            return {"tenant": self.tenant, "created_at": {"$ne": None}}
        owned = {"owner": self.owner}  # Known by the upload alone.
        if not self.shared:
            return {"tenant": self.tenant, **owned}
        known = {"tenant": self.tenant, "created_at": {"$ne": None}}
        if by_reader:
            return {**known, "$or": [owned, {"shares.reader": self.owner}]}
        strangers = {"owner": {"$ne": self.owner}, "shares.reader": {"$ne": self.owner}}
        return {**known, "$nor": [strangers]}


EVERYTHING = Visibility(everything=True)
"""What this service itself may know of."""
