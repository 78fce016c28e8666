"""Authentication of requests: none at all, or by token (JWT, RFC 7519 and 9068) or API key."""

from typing import Annotated, Any, Protocol, TypeVar

import jwt
from fastapi import Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from jwt.exceptions import ExpiredSignatureError, ImmatureSignatureError, PyJWTError
from starlette.requests import HTTPConnection

from shared.auth.accesserrors import (
    ForeignOriginError,
    InvalidTokenError,
    TokenExpiredError,
    UnauthenticatedError,
)
from shared.auth.apikeys import PREFIX, ApiKeys
from shared.auth.jwks import PublishedKeys, SharedSecret, SigningKeys
from shared.auth.origins import check_page, is_this_machine
from shared.auth.principal import EVERYBODY, Principal, Role, Scope
from shared.events.moments import utc_now
from shared.events.storable import LAST_MOMENT
from shared.settings import AccessSettings

LEEWAY = 30.0
"""Seconds of clock difference allowed between the issuer and the installation (Kafka's clock)."""

MAX_TOKEN = 8192
"""Maximum characters of a token. Proxies do not accept longer headers either."""

MAX_NAME = 255
"""Maximum characters of a subject or tenant, which are stored in events and an index."""


SESSION = "__Host-waybill"
"""The cookie that holds a browser's token. With this prefix, browsers accept it only from this
host, and only over TLS or from a loopback address."""


class Authenticator(Protocol):
    """Authenticates the caller of a request."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Return the caller of a request.

        Raises:
            UnauthenticatedError: the request has no valid credential.
            ForeignOriginError: the credential is a cookie, sent by a page of another origin.
            UnavailableError: the credential cannot be verified at the moment.
        """


def make_authenticator(
    settings: AccessSettings, keys: ApiKeys, *, trusted: frozenset[str] = frozenset()
) -> Authenticator:
    """Return the authenticator that the settings select.

    Args:
        trusted: additional origins whose pages may send the session cookie.
    """
    if settings.auth == "none":
        return LocalAccess()
    if settings.auth == "open":
        return OpenAccess()
    signed_by: SigningKeys
    if settings.auth_secret is not None:
        signed_by = SharedSecret(settings.auth_secret.get_secret_value().encode())
    else:
        signed_by = PublishedKeys(settings.auth_jwks_url or "")
    tokens = Tokens(signed_by, issuer=settings.auth_issuer, audience=settings.auth_audience)
    return BearerAuthenticator(tokens, keys, trusted)


class OpenAccess:
    """Gives every caller full access."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:  # noqa: ARG002
        """Return the anonymous admin."""
        return EVERYBODY


class LocalAccess:
    """Gives full access to requests that name a loopback host.

    A foreign page can point its own host name here (DNS rebinding). The browser would then treat
    this service as the page's origin.
    """

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Return the anonymous admin.

        Raises:
            ForeignOriginError: the `Host` header does not name this machine.
        """
        host = connection.headers.get("host", "")
        if not is_this_machine(host):
            raise ForeignOriginError(
                f"With WAYBILL_AUTH=none, the host must be a loopback address, not {host}; "
                "WAYBILL_AUTH=open allows any host name."
            )
        return EVERYBODY


class BearerAuthenticator:
    """Authenticates by a token or an API key, in a header or in the session cookie of our page."""

    def __init__(self, tokens: "Tokens", keys: ApiKeys, trusted: frozenset[str]) -> None:
        self._tokens = tokens
        self._keys = keys
        self._trusted = trusted

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Return the principal of the header's credential, or else of the cookie's."""
        authorization = connection.headers.get("authorization")
        if authorization is not None:
            credential = bearer(authorization)
        elif (cookie := connection.cookies.get(SESSION)) is not None:
            check_page(connection, self._trusted)
            credential = cookie
        else:
            raise UnauthenticatedError
        verify = self._keys.verify if credential.startswith(PREFIX) else self._tokens.verify
        return await verify(credential)


def bearer(authorization: str) -> str:
    """Return the credential of a header `Authorization: Bearer …`.

    Raises:
        UnauthenticatedError: the header has another scheme.
    """
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthenticatedError
    return credential


class Tokens:
    """Verifies signed tokens (JWT)."""

    def __init__(self, keys: SigningKeys, *, issuer: str | None, audience: str | None) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Principal:
        """Return the principal that a token names.

        Raises:
            InvalidTokenError: the token or its signature is invalid.
            TokenExpiredError: the token has expired.
            KeysUnavailableError: the issuer's keys are unavailable.
        """
        if len(token) > MAX_TOKEN:
            raise InvalidTokenError(
                f"The token has {len(token)} characters; the limit is {MAX_TOKEN}."
            )
        try:
            key = await self._keys.key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=self._keys.algorithms,
                audience=self._audience,
                issuer=self._issuer,
                # The library would use the local clock, without Kafka's correction.
                options={
                    "require": ["exp", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            _check_times(claims, utc_now().timestamp())
        except ExpiredSignatureError as error:
            raise TokenExpiredError from error
        except (PyJWTError, RecursionError, OverflowError, ValueError, TypeError) as error:
            raise InvalidTokenError(f"The token is invalid: {error}.") from error
        return _principal(claims)


def _check_times(claims: dict[str, Any], now: float) -> None:
    """Check the times of a token (RFC 7519, 4.1.4 to 4.1.6).

    Args:
        now: Unix seconds.

    Raises:
        ExpiredSignatureError: the token has expired.
        ImmatureSignatureError: the token is not valid yet.
        ValueError, TypeError, OverflowError: a time is not a number.
    """
    if int(claims["exp"]) <= now - LEEWAY:
        raise ExpiredSignatureError
    for name in ("nbf", "iat"):
        begins = claims.get(name)
        if begins is not None and int(begins) > now + LEEWAY:
            raise ImmatureSignatureError(f"{name} is in the future")


def _principal(claims: dict[str, Any]) -> Principal:
    """Return the principal that verified claims name.

    Raises:
        InvalidTokenError: the subject or the tenant is invalid.
    """
    tenant = claims.get("tenant")
    return Principal(
        subject=_name(claims["sub"]),
        tenant=None if tenant is None else _name(tenant),
        roles=frozenset({Role.USER}) | _known(Role, claims.get("roles", ())),
        # A token without any of our scopes is not meant to be restricted.
        scopes=_known(Scope, str(claims.get("scope", "")).split()) or frozenset(Scope),
        # Timers accept no later time; a token beyond it never expires.
        expires_at=min(float(claims["exp"]), LAST_MOMENT.timestamp()) + LEEWAY,
    )


def _name(value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable():
        return value
    raise InvalidTokenError(
        f"The token's subject or tenant is not a text of 1 to {MAX_NAME} printable characters."
    )


Member = TypeVar("Member", Role, Scope)


def _known(kind: type[Member], named: object) -> frozenset[Member]:
    """Return the members with these names. Issuers also use names that are unknown here."""
    listed = named if isinstance(named, list | tuple) else ()
    return frozenset(member for member in kind if member.value in listed)


class PrincipalDependency(SecurityBase):
    """FastAPI dependency that authenticates the caller; a security scheme in OpenAPI."""

    model = HTTPBearer(description="A JWT or an API key. Not required with `WAYBILL_AUTH=none`.")
    scheme_name = "token"

    async def __call__(self, connection: HTTPConnection) -> Principal:
        authenticator: Authenticator = connection.scope["state"]["authenticator"]
        return await authenticator.authenticate(connection)


authenticated = PrincipalDependency()

Asker = Annotated[Principal, Security(authenticated)]
"""Endpoint parameter: the authenticated caller."""
