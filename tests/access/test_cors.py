"""Pages of allowed origins can use the services with the session cookie; others cannot."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets
from fastapi import FastAPI
from starlette.responses import JSONResponse

from services.status.app import create_app as create_status
from services.status.settings import StatusSettings
from services.upload.settings import UploadSettings
from shared.auth.auth import SESSION
from shared.http.cors import ANY, Cors, CorsPolicy
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.access.installation import JWT, UNKNOWN
from tests.access.people import EVERYBODY, bearer
from tests.support.serving import served, until_ready

PAGE, OTHER = "https://page.example", "https://other.example"

USED = "authorization, content-type, if-range, range, idempotency-key, last-event-id, tus-resumable"


def app_with(policy: CorsPolicy) -> FastAPI:
    app = FastAPI()
    app.add_middleware(Cors, policy=policy)

    @app.get("/")
    async def read() -> JSONResponse:
        return JSONResponse({}, headers={"Vary": "Accept"})

    return app


def client_of(policy: CorsPolicy) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app_with(policy))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


async def preflight(
    client: httpx.AsyncClient, path: str, origin: str, method: str
) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": USED,
    }
    return await client.options(path, headers=asked)


async def test_a_named_page_may_read_with_credentials() -> None:
    policy = CorsPolicy(origins=frozenset({PAGE}), credentials=True)
    async with client_of(policy) as client:
        answer = await client.get("/", headers={"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert {"ETag", "Content-Range", "Accept-Ranges", "Location", "Retry-After"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )
        assert answer.headers["vary"] == "Accept, Origin"
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            asked = await preflight(client, "/", PAGE, method)
            assert asked.status_code == 200
            assert method in asked.headers["access-control-allow-methods"]
            assert asked.headers["access-control-allow-headers"] == USED
            assert asked.headers["access-control-allow-credentials"] == "true"
            assert "Origin" in asked.headers["vary"]


@pytest.mark.parametrize("origin", [OTHER, "null", PAGE + ".evil.example", "http://page.example"])
async def test_another_page_may_not(origin: str) -> None:
    policy = CorsPolicy(origins=frozenset({PAGE}), credentials=True)
    async with client_of(policy) as client:
        for answer in (
            await client.get("/", headers={"Origin": origin}),
            await preflight(client, "/", origin, "GET"),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert "Origin" in answer.headers["vary"]
        assert (await preflight(client, "/", origin, "GET")).status_code == 403
        assert "Origin" in (await client.get("/")).headers["vary"]


async def test_any_page_may_read_without_credentials() -> None:
    async with client_of(CorsPolicy(origins=frozenset({ANY}), credentials=False)) as client:
        answer = await client.get("/", headers={"Origin": OTHER})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "Accept"
    with pytest.raises(ValueError, match="list of origins"):
        CorsPolicy(origins=frozenset({ANY, PAGE}), credentials=True)


def test_the_settings_name_origins() -> None:
    named = UploadSettings(
        **JWT, cors_origins="https://Page.example:443, *", status_url="http://s/x"
    )
    assert named.cors_policy == CorsPolicy(origins=frozenset({PAGE, "http://s"}), credentials=True)
    assert UploadSettings().cors_policy.origins == {ANY}
    assert StatusSettings(cors_origins="*").cors_policy is None
    for wrong in ("page.example", "https://", "null"):
        with pytest.raises(ValueError, match="not an origin"):
            StatusSettings(cors_origins=wrong)


@pytest.fixture
async def status(settings: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    await create_topics(settings)
    given = settings.model_dump() | JWT | {"blobs": str(tmp_path), "cors_origins": (PAGE,)}
    async with served(create_status(StatusSettings(**given))) as client:
        await until_ready(client)
        yield client


async def test_a_page_that_is_hosted_elsewhere_is_like_our_own(status: httpx.AsyncClient) -> None:
    credential = EVERYBODY["owner"]
    if credential.startswith("wbk_"):
        pytest.skip("the owner has a key")
    begun = await status.post("/api/session", headers={**bearer(credential), "Origin": PAGE})
    assert begun.status_code == 200
    assert begun.headers["access-control-allow-credentials"] == "true"
    cookie = {"Cookie": f"{SESSION}={credential}"}
    cancel = f"/api/files/{UNKNOWN}/cancel"
    for origin, code in ((PAGE, "unknown_file"), (OTHER, "foreign_origin")):
        answer = await status.post(cancel, headers={**cookie, "Origin": origin})
        assert answer.json()["code"] == code
        assert answer.headers.get("access-control-allow-origin") == (
            PAGE if origin == PAGE else None
        )
    listed = await status.get("/api/files", headers={**cookie, "Origin": PAGE})
    assert listed.status_code == 200
    assert (await status.get("/api/files", headers={**cookie, "Origin": OTHER})).status_code == 403
    async with status.stream("GET", "/api/stream", headers={**cookie, "Origin": PAGE}) as opened:
        assert opened.status_code == 200
        assert opened.headers["access-control-allow-origin"] == PAGE
        assert opened.headers["access-control-allow-credentials"] == "true"
    address = str(status.base_url).replace("http", "ws", 1) + "/api/ws"
    async with websockets.connect(address, additional_headers={**cookie, "Origin": PAGE}) as socket:
        await socket.send('{"type": "subscribe"}')
        async with asyncio.timeout(20):
            assert json.loads(await socket.recv())["type"] == "subscribed"
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(address, additional_headers={**cookie, "Origin": OTHER}):
            pass
    ticket = (await status.post("/api/tickets", headers=bearer(credential))).json()["ticket"]
    by_ticket = {"Origin": OTHER}
    async with status.stream("GET", f"/api/stream?ticket={ticket}", headers=by_ticket) as opened:
        assert opened.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in opened.headers
