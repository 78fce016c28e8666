"""Whose files somebody may know of: asked of MongoDB, and of every state that is told."""

import math
from dataclasses import dataclass
from typing import Any, Self

from services.status.projection import Status
from shared.principal import Principal


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """The files that somebody may know of; of all others they are told what is told of no file."""

    everything: bool = False
    tenant: str | None = None
    """Only of this tenant; None is a tenant as well, of those who have no other."""
    owner: str | None = None
    """Only of this owner; None for all of the tenant."""
    until: float | None = None
    """Unix seconds from which on who they are must be proved anew: live connections end then."""
    api_key: str | None = None
    """The id of the API key that proves who they are: with it live connections end as well."""

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """What somebody sees: an admin everything, an operator their tenant's, a user their own."""
        return cls(
            everything=principal.is_admin,
            tenant=principal.tenant,
            owner=None if principal.is_operator else principal.subject,
            until=principal.expires_at,
            api_key=principal.api_key,
        )

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
            and self.owner in (None, status.owner)
        )

    def conditions(self) -> dict[str, Any]:
        """The same, in MongoDB's words."""
        if self.everything:
            return {}
        if self.owner is None:
            return {"tenant": self.tenant, "created_at": {"$ne": None}}
        return {"tenant": self.tenant, "owner": self.owner}  # Known by the upload alone.


EVERYTHING = Visibility(everything=True)
"""What this service itself may know of."""
