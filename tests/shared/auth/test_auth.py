"""Only a valid token authenticates a caller."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI, Response
from starlette.requests import HTTPConnection

from services.status.live.filter import Filter
from services.status.live.ports import close_at_end_of
from services.status.live.subscription import Subscription
from services.status.store.access import Visibility
from shared.auth.accesserrors import (
    ForbiddenError,
    ForeignOriginError,
    InvalidTokenError,
    TokenExpiredError,
    UnauthenticatedError,
)
from shared.auth.apikeys import ApiKeys
from shared.auth.auth import LEEWAY, SESSION, BearerAuthenticator, Tokens, make_authenticator
from shared.auth.jwks import AGAIN_AFTER, FRESH_FOR, KEPT_FOR, PublishedKeys, SharedSecret
from shared.auth.principal import EVERYBODY, Principal, Role, Scope
from shared.blobs.blobs import open_blob_store
from shared.clock import BrokerClock
from shared.errors import KeysUnavailableError
from shared.settings import AccessSettings, Settings
from tests.support.serving import served

ISSUER, AUDIENCE = "https://issuer.test", "waybill"
SECRET = b"0123456789abcdef0123456789abcdef"
DAY = 86_400
"""Lifetime in seconds. Tokens created at collection time are used much later."""

NO_KEYS = ApiKeys(open_blob_store(Settings(blobs="memory://")))
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "exp": now + DAY} | changes


def signed(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str = "one", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid})


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if key is RSA_KEY else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def asking(authorization: str | None, method: str = "GET", **headers: str) -> HTTPConnection:
    """Return a request with these headers; underscores in names become dashes."""
    given = {"host": "waybill.test"} | {name.replace("_", "-"): headers[name] for name in headers}
    given |= {} if authorization is None else {"authorization": authorization}
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in given.items()]
    return HTTPConnection({"type": "http", "method": method, "headers": raw})


class Issuer:
    """An issuer that publishes keys and counts the requests."""

    def __init__(self) -> None:
        self.keys: Any = [public(RSA_KEY, "one")]
        self.status = 200
        self.asked = 0
        self.now = 1000.0
        self.url = ""

    def clock(self) -> float:
        return self.now

    def tokens(self) -> Tokens:
        return Tokens(PublishedKeys(self.url, clock=self.clock), issuer=ISSUER, audience=AUDIENCE)

    def bearers(self) -> BearerAuthenticator:
        return BearerAuthenticator(self.tokens(), NO_KEYS, frozenset())


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = FastAPI()

    @app.get("/keys")
    async def keys() -> Response:
        issuer.asked += 1
        return Response(json.dumps({"keys": issuer.keys}), issuer.status)

    async with served(app) as client:
        issuer.url = f"{client.base_url}/keys"
        yield issuer


@pytest.mark.parametrize("slow_by", [3000, -3000])
async def test_a_pod_with_a_wrong_clock_takes_tokens_for_as_long_as_they_last(
    monkeypatch: pytest.MonkeyPatch, slow_by: int
) -> None:
    clock = BrokerClock()
    clock.offset = float(slow_by)
    monkeypatch.setattr("shared.clock.CLOCK", clock)
    tokens = Tokens(SharedSecret(SECRET), issuer=ISSUER, audience=AUDIENCE)
    now = int(time.time()) + slow_by

    async def verify(**times: Any) -> Principal:
        return await tokens.verify(signed(SECRET, "HS256", **times))

    good = await verify(exp=now + 60, nbf=now - 60, iat=now - 60)
    with pytest.raises(TokenExpiredError):
        await verify(exp=now - 60)
    for later in ({"nbf": now + 60}, {"iat": now + 60}, {"nbf": "soon"}):
        with pytest.raises(InvalidTokenError):
            await verify(exp=now + 120, **later)
    stream = Subscription(Filter(visible_to=Visibility.of(good)))
    timer = close_at_end_of(Visibility.of(good), stream)
    assert timer is not None
    assert 0 < timer.when() - asyncio.get_running_loop().time() <= 60 + LEEWAY
    timer.cancel()
    with pytest.raises(TokenExpiredError):
        close_at_end_of(Visibility(until=now - 60.0), stream)


async def test_where_nobody_is_asked_everybody_may_do_everything() -> None:
    settings = AccessSettings(auth="open", host="0.0.0.0")  # noqa: S104
    assert await make_authenticator(settings, NO_KEYS).authenticate(asking(None)) is EVERYBODY


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", ""])
async def test_without_tokens_this_machine_is_served(host: str) -> None:
    authenticator = make_authenticator(AccessSettings(), NO_KEYS)
    assert await authenticator.authenticate(asking(None, host=host)) is EVERYBODY


@pytest.mark.parametrize(
    "host",
    [
        "another.test:8000",
        "localhost.another.test",
        "10.0.0.1",
        "127.0.0.1.another.test",
        "[",
        "a@b",
    ],
)
async def test_without_tokens_no_page_gets_here_by_a_name_of_its_own(host: str) -> None:
    authenticator = make_authenticator(AccessSettings(), NO_KEYS)
    with pytest.raises(ForeignOriginError):
        await authenticator.authenticate(asking(None, host=host))


async def test_a_token_tells_who_asks_and_what_they_are(issuer: Issuer) -> None:
    expires = int(time.time()) + 60
    token = signed(tenant="acme", roles=["operator", "cook"], exp=expires)

    assert await issuer.bearers().authenticate(asking(f"Bearer {token}")) == Principal(
        subject="ada",
        tenant="acme",
        roles=frozenset({Role.USER, Role.OPERATOR}),
        expires_at=expires + LEEWAY,
    )


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("files:read openid", {Scope.READ}),
        ("openid profile", set(Scope)),
    ],
)
async def test_scopes_of_ours_limit_a_token(issuer: Issuer, scope: str, scopes: set[Scope]) -> None:
    assert (await issuer.tokens().verify(signed(scope=scope))).scopes == scopes


async def test_a_principal_may_not_do_what_its_scopes_do_not_have() -> None:
    reader = Principal(subject="ada", scopes=frozenset({Scope.READ}))
    reader.require(Scope.READ)
    with pytest.raises(ForbiddenError):
        reader.require(Scope.COMMAND)


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Token x"])
async def test_without_a_token_nobody_is_known(issuer: Issuer, header: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as raised:
        await issuer.bearers().authenticate(asking(header))
    assert raised.value.code == "unauthenticated"
    assert issuer.asked == 0


def _unsigned() -> str:
    return jwt.encode(claims(), "", "none", headers={"kid": "one"})


def _signed_with_what_is_published() -> str:
    """Return a token signed by HMAC with the public key (algorithm confusion).

    PyJWT itself refuses to create such tokens.
    """
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [{"alg": "HS256", "kid": "one", "typ": "JWT"}, claims()]
    head = b".".join(urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in parts)
    signature = urlsafe_b64encode(hmac.digest(pem, head, hashlib.sha256)).rstrip(b"=")
    return (head + b"." + signature).decode()


def _nested() -> str:
    head = urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    return f"{head}.e30.AA"


@pytest.mark.parametrize(
    "token",
    [
        _unsigned(),
        _signed_with_what_is_published(),
        _nested(),
        signed(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        signed(EC_KEY, "ES256"),
        signed(RSA_KEY, "PS256"),
        signed(kid="two"),
        jwt.encode(claims(), RSA_KEY, "RS256"),
        signed(aud="another"),
        signed(iss="https://another.test"),
        signed(sub=""),
        signed(sub="a\x00b"),
        signed(sub="a" * 256),
        signed(tenant=7),
        signed(nbf=int(time.time()) + DAY),
        jwt.encode({"sub": "ada"}, RSA_KEY, "RS256", headers={"kid": "one"}),
        signed()[:-8] + "AAAAAAAA",
        signed(note="a" * 9000),
        "a.b.c",
        "",
        "\u00fc.\u00fc.\u00fc",
    ],
)
async def test_a_token_that_is_not_good_is_refused(issuer: Issuer, token: str) -> None:
    with pytest.raises(InvalidTokenError):
        await issuer.bearers().authenticate(asking(f"Bearer {token}"))


async def test_a_token_ends_when_it_says_and_the_clocks_may_differ_a_little(
    issuer: Issuer,
) -> None:
    now = int(time.time())
    await issuer.tokens().verify(signed(exp=now - int(LEEWAY) + 10))
    with pytest.raises(TokenExpiredError):
        await issuer.tokens().verify(signed(exp=now - int(LEEWAY) - 1))


async def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer) -> None:
    tokens = issuer.tokens()
    for _ in range(5):
        await tokens.verify(signed())
    assert issuer.asked == 1


async def test_a_new_key_is_found_and_one_that_is_withdrawn_is_forgotten(issuer: Issuer) -> None:
    tokens = issuer.tokens()
    await tokens.verify(signed())
    issuer.keys = [public(EC_KEY, "two")]
    issuer.now += AGAIN_AFTER + 1
    await tokens.verify(signed(EC_KEY, "ES256", kid="two"))
    with pytest.raises(InvalidTokenError):
        await tokens.verify(signed())


async def test_a_withdrawn_key_lives_no_longer_than_keys_are_fresh(issuer: Issuer) -> None:
    tokens = issuer.tokens()
    await tokens.verify(signed())
    issuer.keys = []
    await tokens.verify(signed())
    issuer.now += FRESH_FOR + 1
    with pytest.raises(InvalidTokenError):
        await tokens.verify(signed())


async def test_unknown_keys_do_not_make_the_service_ask_again_and_again(issuer: Issuer) -> None:
    tokens = issuer.tokens()
    for number in range(20):
        with pytest.raises(InvalidTokenError):
            await tokens.verify(signed(kid=f"unknown-{number}"))
    assert issuer.asked == 1


async def test_an_issuer_that_fails_is_outlived_for_an_hour(issuer: Issuer) -> None:
    tokens = issuer.tokens()
    await tokens.verify(signed())
    issuer.status = 500
    issuer.now += FRESH_FOR + 1
    await tokens.verify(signed())
    issuer.now += KEPT_FOR
    with pytest.raises(KeysUnavailableError):
        await tokens.verify(signed())
    issuer.status = 200
    issuer.now += AGAIN_AFTER + 1
    await tokens.verify(signed())


@pytest.mark.parametrize("keys", [None, "none", {"kid": "one"}])
async def test_an_issuer_that_publishes_no_key_set_counts_as_failing(
    issuer: Issuer, keys: Any
) -> None:
    issuer.keys = keys
    with pytest.raises(KeysUnavailableError):
        await issuer.tokens().verify(signed())


async def test_keys_that_are_not_for_signatures_or_shared_are_passed_over(issuer: Issuer) -> None:
    shared = {"kty": "oct", "k": urlsafe_b64encode(SECRET).decode().rstrip("="), "kid": "shared"}
    issuer.keys = [7, {}, shared, public(RSA_KEY, "one", use="enc"), public(EC_KEY, "two")]
    tokens = issuer.tokens()
    await tokens.verify(signed(EC_KEY, "ES256", kid="two"))
    for token in (signed(), signed(SECRET, "HS256", kid="shared")):
        with pytest.raises(InvalidTokenError):
            await tokens.verify(token)


async def test_a_shared_secret_takes_tokens_of_its_own_and_no_others() -> None:
    tokens = Tokens(SharedSecret(SECRET), issuer=None, audience=None)
    mine = {"sub": "ada", "exp": int(time.time()) + 60}
    assert (await tokens.verify(jwt.encode(mine, SECRET, "HS256"))).subject == "ada"
    for other in (
        jwt.encode(mine, SECRET[::-1], "HS256"),
        jwt.encode(mine, "", "none"),
        jwt.encode(mine, RSA_KEY, "RS256"),
    ):
        with pytest.raises(InvalidTokenError):
            await tokens.verify(other)


OURS = frozenset({"https://page.test"})


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"sec_fetch_site": "same-origin"}),
        ("GET", {"origin": "https://page.test"}),
        ("POST", {"origin": "https://waybill.test"}),
        ("POST", {"origin": "https://page.test"}),
    ],
)
async def test_a_cookie_tells_who_asks_from_a_page_of_ours(
    method: str, headers: dict[str, str]
) -> None:
    bearers = BearerAuthenticator(
        Tokens(SharedSecret(SECRET), issuer=ISSUER, audience=AUDIENCE), NO_KEYS, OURS
    )
    cookie = f"{SESSION}={signed(SECRET, 'HS256')}"
    found = await bearers.authenticate(asking(None, method, cookie=cookie, **headers))
    assert found.subject == "ada"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"sec_fetch_site": "same-site"}),
        ("GET", {"sec_fetch_site": "cross-site"}),
        ("GET", {"origin": "https://another.test"}),
        ("GET", {"origin": "null"}),
        ("POST", {}),
        ("POST", {"sec_fetch_site": "same-origin"}),
        ("POST", {"origin": "https://another.test"}),
        ("POST", {"origin": "https://waybill.test.another.test"}),
        ("POST", {"origin": "https://waybill.test:8443"}),
        ("DELETE", {"origin": "null"}),
    ],
)
async def test_no_other_page_uses_somebodys_cookie(method: str, headers: dict[str, str]) -> None:
    bearers = BearerAuthenticator(
        Tokens(SharedSecret(SECRET), issuer=ISSUER, audience=AUDIENCE), NO_KEYS, OURS
    )
    cookie = f"{SESSION}={signed(SECRET, 'HS256')}"
    with pytest.raises(ForeignOriginError):
        await bearers.authenticate(asking(None, method, cookie=cookie, **headers))


@pytest.mark.parametrize("expires", [1e300, 10**40], ids=["1e300", "10**40"])
async def test_a_token_that_outlasts_every_timer_is_one_that_lasts(
    issuer: Issuer, expires: float
) -> None:
    principal = await issuer.tokens().verify(signed(exp=expires))
    assert principal.expires_at is not None
    assert principal.expires_at < 1e12
