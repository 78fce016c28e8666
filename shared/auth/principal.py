"""Who asks: what a service knows of them, however they proved it."""

from dataclasses import dataclass
from enum import StrEnum

from shared.auth.accesserrors import ForbiddenError


class Role(StrEnum):
    """What somebody is to an installation."""

    USER = "user"
    """Sees and commands what is theirs."""
    OPERATOR = "operator"
    """Sees and commands all that is of their tenant."""
    ADMIN = "admin"
    """Sees and commands everything."""


class Scope(StrEnum):
    """What a credential may be used for."""

    UPLOAD = "files:upload"
    READ = "files:read"
    COMMAND = "files:command"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks, and what for they may ask."""

    subject: str
    """The owner of what they upload; empty if nobody is told from anybody else."""
    tenant: str | None = None
    """Whose files they may have to do with at all; those without a tenant are one as well."""
    roles: frozenset[Role] = frozenset({Role.USER})
    scopes: frozenset[Scope] = frozenset(Scope)
    expires_at: float | None = None
    """Unix seconds from which on they must prove it anew; None for never."""
    api_key: str | None = None
    """The id of the key that proves it, if one does: it may be revoked at any time."""

    def require_operator(self) -> None:
        """Check that they may look after the files of others.

        Raises:
            ForbiddenError: they may not.
        """
        if not self.is_operator:
            raise ForbiddenError("This is for operators.")

    def require_admin(self) -> None:
        """Check that they may look after the installation.

        Raises:
            ForbiddenError: they may not.
        """
        if not self.is_admin:
            raise ForbiddenError("This is for admins.")

    def require(self, scope: Scope) -> None:
        """Check that the credential may be used so.

        Raises:
            ForbiddenError: it may not.
        """
        if scope not in self.scopes:
            raise ForbiddenError(f"The credential does not have the scope {scope.value}.")

    @property
    def owner(self) -> str | None:
        """Whose the files are that they upload; None for nobody's in particular."""
        return self.subject or None

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    @property
    def is_operator(self) -> bool:
        """Whether they see what is not theirs."""
        return bool(self.roles & {Role.OPERATOR, Role.ADMIN})


EVERYBODY = Principal(subject="", roles=frozenset({Role.ADMIN}))
"""Who asks where nobody has to prove anything."""
