"""The callers in these tests and their credentials."""

import time
from datetime import timedelta
from typing import Any

import jwt

from shared.auth.apikeys import new_key
from shared.auth.principal import Role

SECRET = "a secret of these tests, 32 bytes or more"  # noqa: S105 - for these tests only
FAR = 86_400


def token(
    subject: str = "ada",
    tenant: str = "acme",
    *roles: str,
    key: str = SECRET,
    algorithm: str = "HS256",
    lasts: float = FAR,
    **more: Any,
) -> str:
    """Return a token, which is valid by default."""
    claims = {"sub": subject, "tenant": tenant, "roles": roles, "exp": time.time() + lasts}
    return jwt.encode(claims | more, key, algorithm)


KEYS = {
    "owner by key": new_key("ada", tenant="acme"),
    "other by key": new_key("bob", tenant="acme"),
    "operator by key": new_key("robot", tenant="acme", role=Role.OPERATOR),
    "expired key": new_key("ada", tenant="acme", lasts=timedelta(0)),
}
"""Stored API keys, each with the text that its holder sends."""

NOBODY: dict[str, str | None] = {
    "anonymous": None,
    "expired": token(lasts=-FAR),
    "wrong key": token(key=SECRET[::-1]),
    "alg=none": token(key="", algorithm="none"),
    "revoked key": new_key("ada", tenant="acme")[1],
    "another's key": KEYS["owner by key"][1][:20] + KEYS["other by key"][1][20:],
    "expired key": KEYS["expired key"][1],
}
"""Callers without a valid credential."""

EVERYBODY: dict[str, str] = {
    "other": token("bob"),
    "other by key": KEYS["other by key"][1],
    "same name in another tenant": token("ada", "globex"),
    "operator of another tenant": token("otto", "globex", "operator"),
    "former reader": token("dora"),
    "reader's name in another tenant": token("carl", "globex"),
    "reader": token("carl"),
    "owner": token("ada"),
    "owner by key": KEYS["owner by key"][1],
    "operator by key": KEYS["operator by key"][1],
    "operator": token("olga", "acme", "operator"),
    "admin": token("root", "globex", "admin"),
}
"""Authenticated callers. Strangers come first: their requests must not affect the others."""

WHO = {
    "other": ("bob", "acme"),
    "other by key": ("bob", "acme"),
    "same name in another tenant": ("ada", "globex"),
    "operator of another tenant": ("otto", "globex"),
    "former reader": ("dora", "acme"),
    "reader's name in another tenant": ("carl", "globex"),
    "reader": ("carl", "acme"),
    "owner": ("ada", "acme"),
    "owner by key": ("ada", "acme"),
    "operator by key": ("robot", "acme"),
    "operator": ("olga", "acme"),
    "admin": ("root", "globex"),
}
"""Subjects and tenants of the authenticated callers."""

COMMANDS = {"owner", "owner by key", "operator", "operator by key", "admin"}
"""Callers that may give commands about a file of ada in acme."""

SEES = COMMANDS | {"reader"}
"""Callers that may read a file that ada shares with carl, and no longer with dora."""

WITHOUT = {"bob", "carl", "dora"}
"""Subjects without files of their own."""

STAFF = {"operator of another tenant", "operator", "operator by key", "admin"}
"""Operators and admins, which may access files of other owners."""


def bearer(credential: str | None) -> dict[str, str]:
    """Return the `Authorization` header for a credential."""
    return {} if credential is None else {"Authorization": f"Bearer {credential}"}
