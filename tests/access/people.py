"""Who asks in these tests, and the tokens that they have."""

import time
from typing import Any

import jwt

SECRET = "a secret of these tests, 32 bytes or more"  # noqa: S105 - of these tests alone
FAR = 3600


def token(
    subject: str = "ada",
    tenant: str = "acme",
    *roles: str,
    key: str = SECRET,
    algorithm: str = "HS256",
    lasts: float = FAR,
    **more: Any,
) -> str:
    """A token that is good if it is not said otherwise."""
    claims = {"sub": subject, "tenant": tenant, "roles": roles, "exp": time.time() + lasts}
    return jwt.encode(claims | more, key, algorithm)


NOBODY: dict[str, str | None] = {
    "anonymous": None,
    "expired": token(lasts=-FAR),
    "wrong key": token(key=SECRET[::-1]),
    "alg=none": token(key="", algorithm="none"),
}
"""Those who have not proved who they are."""

EVERYBODY: dict[str, str] = {
    "other": token("bob"),
    "same name in another tenant": token("ada", "globex"),
    "operator of another tenant": token("otto", "globex", "operator"),
    "owner": token("ada"),
    "operator": token("olga", "acme", "operator"),
    "admin": token("root", "globex", "admin"),
}
"""Those who have; strangers first, as what they do must change nothing for the others."""

SEES = {"owner", "operator", "admin"}
"""Who of them may know of a file of ada's in acme."""

LOOKS_AFTER = {"operator of another tenant", "operator", "admin"}
"""Who of them may look after files of others at all."""


def bearer(credential: str | None) -> dict[str, str]:
    """The header that a request has."""
    return {} if credential is None else {"Authorization": f"Bearer {credential}"}
