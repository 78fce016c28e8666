"""A file is fetched from a URL as if it had been uploaded, or not at all."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from services.upload.settings import UploadSettings
from tests.services.upload.service import Service, UploadedEvents, running
from tests.support.serving import served

FETCH = "/api/files/upload/from-url"


def elsewhere() -> FastAPI:
    """A site with working and failing URLs."""
    app = FastAPI()

    @app.get("/files/a%20report.txt")
    @app.get("/files/a report.txt")
    async def report() -> Response:
        return Response("some words", media_type="text/plain")

    @app.get("/moved")
    async def moved() -> Response:
        return RedirectResponse("/files/a%20report.txt")

    @app.get("/loop")
    async def loop() -> Response:
        return RedirectResponse("/loop")

    @app.get("/inside")
    async def inside() -> Response:
        return RedirectResponse("ftp://10.0.0.1/secret")

    @app.get("/broken")
    async def broken() -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half of it"
            raise ConnectionError("the plug")

        return StreamingResponse(pieces(), headers={"Content-Length": "1000"})

    @app.get("/large")
    async def large() -> Response:
        return Response(b"x" * 2000, media_type="text/plain")

    return app


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async with served(elsewhere(), past_asgi=False) as client:
        yield str(client.base_url)


@pytest.fixture
async def fetching(settings: UploadSettings) -> AsyncIterator[Service]:
    given = {"fetch": True, "fetch_private": True, "max_file_size": 1000}
    async with running(settings.model_copy(update=given)) as service:
        yield service


async def fetch(service: Service, url: str, **more: object) -> httpx.Response:
    return await service.client.post(FETCH, json={"url": url, **more})


@pytest.mark.parametrize("path", ["/files/a%20report.txt", "/moved"])
async def test_a_file_is_fetched_and_recorded_as_if_it_had_been_sent(
    fetching: Service, events: UploadedEvents, site: str, path: str
) -> None:
    answer = await fetch(fetching, site + path, labels={"team": "a"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["name"], told["size"], told["content_type"]) == ("a report.txt", 10, "text/plain")
    assert answer.headers["location"] == told["status_url"]
    event = await events.one()
    assert (event.file_id, event.data.labels) == (told["file_id"], {"team": "a"})


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing", "fetch_failed"),
        ("/loop", "fetch_failed"),
        ("/broken", "fetch_failed"),
        ("/inside", "forbidden_address"),
        ("/large", "too_large"),
    ],
)
async def test_what_cannot_be_fetched_is_refused_and_leaves_nothing(
    fetching: Service, events: UploadedEvents, site: str, path: str, code: str
) -> None:
    refused = await fetch(fetching, site + path)
    assert (refused.is_client_error, refused.json()["code"]) == (True, code), refused.text
    assert await events.all() == []
    assert fetching.blobs() == []


async def test_one_key_fetches_one_file(
    fetching: Service, events: UploadedEvents, site: str
) -> None:
    asked = {"url": f"{site}/moved"}
    headers = {"Idempotency-Key": '"once"'}
    answers = [
        (await fetching.client.post(FETCH, json=asked, headers=headers)).json() for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert len(await events.all()) == 1


async def test_nothing_is_fetched_unless_it_is_allowed(service: Service, site: str) -> None:
    refused = await fetch(service, f"{site}/moved")
    assert (refused.status_code, refused.json()["code"]) == (403, "fetching_off")


async def test_a_private_address_is_refused(settings: UploadSettings) -> None:
    async with running(settings.model_copy(update={"fetch": True})) as service:
        for url in ("https://127.0.0.1/x", "https://169.254.169.254/", "http://files.example/"):
            refused = await fetch(service, url)
            assert (refused.status_code, refused.json()["code"]) == (422, "forbidden_address")
