"""The authenticated caller of a request."""

from dataclasses import dataclass
from enum import StrEnum

from shared.auth.accesserrors import ForbiddenError


class Role(StrEnum):
    """A role within an installation."""

    USER = "user"
    """Has access to its own files."""
    OPERATOR = "operator"
    """Has access to all files of its tenant."""
    ADMIN = "admin"
    """Has access to everything."""


class Scope(StrEnum):
    """A permission of a credential."""

    UPLOAD = "files:upload"
    READ = "files:read"
    COMMAND = "files:command"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The caller and its permissions."""

    subject: str
    """The owner of the files that the caller uploads; empty without authentication."""
    tenant: str | None = None
    """The tenant that the caller is confined to. Callers without a tenant form one of their own."""
    roles: frozenset[Role] = frozenset({Role.USER})
    scopes: frozenset[Scope] = frozenset(Scope)
    expires_at: float | None = None
    """Unix seconds at which the credential expires; None for never."""
    api_key: str | None = None
    """The id of the API key, if the caller used one; it can be revoked at any time."""

    def require_operator(self) -> None:
        """Check that the caller is an operator or admin.

        Raises:
            ForbiddenError: the caller is neither.
        """
        if not self.is_operator:
            raise ForbiddenError("This requires the role operator.")

    def require_admin(self) -> None:
        """Check that the caller is an admin.

        Raises:
            ForbiddenError: the caller is not.
        """
        if not self.is_admin:
            raise ForbiddenError("This requires the role admin.")

    def require(self, scope: Scope) -> None:
        """Check that the credential has a scope.

        Raises:
            ForbiddenError: the scope is missing.
        """
        if scope not in self.scopes:
            raise ForbiddenError(f"The credential does not have the scope {scope.value}.")

    @property
    def owner(self) -> str | None:
        """Return the owner of the files that the caller uploads; None without authentication."""
        return self.subject or None

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    @property
    def is_operator(self) -> bool:
        """Return True if the caller sees files of other owners."""
        return bool(self.roles & {Role.OPERATOR, Role.ADMIN})


EVERYBODY = Principal(subject="", roles=frozenset({Role.ADMIN}))
"""The caller of every request without authentication."""
