"""Finding out who asks: nobody is asked for anything, or for a token (JWT, RFC 7519 and 9068)."""

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
"""Seconds that the issuer's clock and the installation's, which is Kafka's, may differ by."""

MAX_TOKEN = 8192
"""Characters of a token: proxies take no longer header either."""

MAX_NAME = 255
"""Characters of a subject or a tenant, which are written into events and an index."""


SESSION = "__Host-waybill"
"""The cookie that has a browser's token. The prefix has the browser take it from this host alone,
and over TLS or from the loopback."""


class Authenticator(Protocol):
    """Tells who asks."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Raises:
        UnauthenticatedError: that cannot be told.
        ForeignOriginError: by a cookie, and from another site's page.
        UnavailableError: it cannot be told at the moment.
        """


def make_authenticator(
    settings: AccessSettings, keys: ApiKeys, *, trusted: frozenset[str] = frozenset()
) -> Authenticator:
    """What the settings ask for.

    Args:
        trusted: origins of pages that may ask in the name of who looks at them.
    """
    if settings.auth == "none":
        return ThisMachine()
    if settings.auth == "open":
        return Everybody()
    signed_by: SigningKeys
    if settings.auth_secret is not None:
        signed_by = SharedSecret(settings.auth_secret.get_secret_value().encode())
    else:
        signed_by = PublishedKeys(settings.auth_jwks_url or "")
    tokens = Tokens(signed_by, issuer=settings.auth_issuer, audience=settings.auth_audience)
    return Bearers(tokens, keys, trusted)


class Everybody:
    """Everybody may do everything."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:  # noqa: ARG002
        """The same for all."""
        return EVERYBODY


class ThisMachine:
    """Everybody on this machine may do everything, by a name of this machine's.

    A page may have its own name lead here (DNS rebinding), and to the browser we are its origin.
    """

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """The same for all."""
        host = connection.headers.get("host", "")
        if not is_this_machine(host):
            raise ForeignOriginError(
                f"Without tokens only this machine is served, and not as {host}; "
                "WAYBILL_AUTH=open serves it by any name."
            )
        return EVERYBODY


class Bearers:
    """Who sends a token or an API key, by header or from our page by cookie, is whom it names."""

    def __init__(self, tokens: "Tokens", keys: ApiKeys, trusted: frozenset[str]) -> None:
        self._tokens = tokens
        self._keys = keys
        self._trusted = trusted

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Whom the header names, or else the cookie."""
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
    """The credential in a header `Authorization: Bearer …`.

    Raises:
        UnauthenticatedError: there is none.
    """
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthenticatedError
    return credential


class Tokens:
    """Who has a signed token is whom it names."""

    def __init__(self, keys: SigningKeys, *, issuer: str | None, audience: str | None) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Principal:
        """Whom a token names.

        Raises:
            InvalidTokenError: it is none of ours.
            TokenExpiredError: its time is over.
            KeysUnavailableError: nobody can say.
        """
        if len(token) > MAX_TOKEN:
            raise InvalidTokenError(f"The token has more than {MAX_TOKEN} characters.")
        try:
            key = await self._keys.key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=self._keys.algorithms,
                audience=self._audience,
                issuer=self._issuer,
                # The library would compare the times with this machine's clock as it is.
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
            raise InvalidTokenError(f"The token cannot be used: {error}.") from error
        return _principal(claims)


def _check_times(claims: dict[str, Any], now: float) -> None:
    """Compare the times of a token with the present (RFC 7519, 4.1.4 to 4.1.6).

    Args:
        now: Unix seconds.

    Raises:
        ExpiredSignatureError: it has ended.
        ImmatureSignatureError: it has not begun.
        ValueError, TypeError, OverflowError: a time is no number.
    """
    if int(claims["exp"]) <= now - LEEWAY:
        raise ExpiredSignatureError
    for name in ("nbf", "iat"):
        begins = claims.get(name)
        if begins is not None and int(begins) > now + LEEWAY:
            raise ImmatureSignatureError(f"{name} is in the future")


def _principal(claims: dict[str, Any]) -> Principal:
    """Who is named by verified claims.

    Raises:
        InvalidTokenError: a claim is not what it has to be.
    """
    tenant = claims.get("tenant")
    return Principal(
        subject=_name(claims["sub"]),
        tenant=None if tenant is None else _name(tenant),
        roles=frozenset({Role.USER}) | _known(Role, claims.get("roles", ())),
        # Only a token that names scopes of ours is meant to be less than its subject.
        scopes=_known(Scope, str(claims.get("scope", "")).split()) or frozenset(Scope),
        # A timer takes no more, and what lies beyond lasts for ever.
        expires_at=min(float(claims["exp"]), LAST_MOMENT.timestamp()) + LEEWAY,
    )


def _name(value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable():
        return value
    raise InvalidTokenError("The token's subject or tenant is no name.")


Member = TypeVar("Member", Role, Scope)


def _known(kind: type[Member], named: object) -> frozenset[Member]:
    """Those of the names that mean something here; an issuer has others beside."""
    listed = named if isinstance(named, list | tuple) else ()
    return frozenset(member for member in kind if member.value in listed)


class Asking(SecurityBase):
    """The dependency that tells who asks; the OpenAPI document names it as what secures a path."""

    model = HTTPBearer(description="A JWT or an API key. Not asked for with `WAYBILL_AUTH=none`.")
    scheme_name = "token"

    async def __call__(self, connection: HTTPConnection) -> Principal:
        authenticator: Authenticator = connection.scope["state"]["authenticator"]
        return await authenticator.authenticate(connection)


authenticated = Asking()

Asker = Annotated[Principal, Security(authenticated)]
"""Who asks, as an endpoint is told."""
