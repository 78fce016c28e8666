"""Who asks in these tests, and the tokens that they have."""

import time
from typing import Any

import jwt

SECRET = "a secret of these tests, 32 bytes or more"  # noqa: S105 - of these tests alone
FAR = 3600


def token(subject: str = "ada", *, key: str = SECRET, algorithm: str = "HS256", **more: Any) -> str:
    """A token that is good if it is not said otherwise."""
    claims = {"sub": subject, "tenant": "acme", "exp": int(time.time()) + FAR} | more
    return jwt.encode(claims, key, algorithm)


NOBODY: dict[str, str | None] = {
    "anonymous": None,
    "expired": token(exp=int(time.time()) - FAR),
    "wrong key": token(key=SECRET[::-1]),
    "alg=none": token(key="", algorithm="none"),
}
"""Those who have not proved who they are."""


def bearer(credential: str | None) -> dict[str, str]:
    """The header that a request has."""
    return {} if credential is None else {"Authorization": f"Bearer {credential}"}
