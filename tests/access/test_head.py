"""HEAD works for every GET endpoint, returns the same head, and has no side effects."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from services.processor.app import create_app as create_processor
from services.processor.settings import ProcessorSettings
from services.status.app import create_app as create_status
from services.status.settings import StatusSettings
from services.upload.app import create_app as create_upload
from services.upload.settings import UploadSettings
from tests.access.installation import (
    JWT,
    RUNNING,
    STORED,
    Installation,
    running,
    settings_of,
)
from tests.access.people import EVERYBODY, bearer
from tests.access.test_matrix import routes
from tests.support.serving import served
from waybill.local.parts import Parts

VOLATILE = {"date", "content-length"}
"""Headers that may differ between two responses, such as the length of `/metrics`."""


def paths(app: FastAPI) -> set[str]:
    """Return all paths of an application's GET endpoints."""
    found = set()
    for route in routes(app.routes):
        if isinstance(route, APIRoute | Route) and "GET" in (route.methods or ()):
            found.add(re.sub(r":\w+}", "}", route.path))
        elif isinstance(route, Mount):
            found.add(f"{route.path}/app.js")
    return found


STATUS, UPLOAD = create_status(StatusSettings(**JWT)), create_upload(UploadSettings(**JWT))
PROCESSOR = create_processor(ProcessorSettings())


@pytest.fixture(scope="module")
async def installation(
    parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    settings = settings_of(parts, tmp_path_factory.mktemp("blobs"), "heads")
    async with running(settings) as started:
        yield started


def address(path: str) -> str:
    return path.format(
        file_id=STORED,
        batch_id="b1",
        webhook_id="0" * 16,
        name="text.txt",
        partition=99,
        offset=0,
    )


async def same_heads(client: httpx.AsyncClient, path: str, credential: str | None = None) -> int:
    """Compare the responses to GET and HEAD, and return their status."""
    headers = {} if credential is None else bearer(credential)
    async with asyncio.timeout(10):
        async with client.stream("GET", path, headers=headers) as whole:
            pass
        head = await client.head(path, headers=headers)
    assert head.content == b"", path
    assert head.status_code == whole.status_code, path
    ours, theirs = (
        {name: value for name, value in answer.headers.items() if name not in VOLATILE}
        for answer in (head, whole)
    )
    # If the length is not known in advance, only the content shows it.
    theirs.pop("transfer-encoding", None)
    assert ours == theirs, path
    assert ("content-length" in head.headers) == ("content-length" in whole.headers), path
    return head.status_code


async def test_every_get_has_its_head(installation: Installation) -> None:
    for app, client in ((STATUS, installation.status), (UPLOAD, installation.upload)):
        for path in paths(app):
            for credential in (EVERYBODY["admin"], None):
                status = await same_heads(client, address(path), credential)
                assert status < 500, path
                assert status != 405, path


async def test_the_processor_answers_heads() -> None:
    bare = FastAPI(title=PROCESSOR.title)
    bare.router.routes.extend(PROCESSOR.routes)
    bare.user_middleware = PROCESSOR.user_middleware
    async with served(bare) as client:
        for path in paths(PROCESSOR):
            assert await same_heads(client, path) in (200, 503), path


async def test_a_head_says_so_where_there_is_no_get(installation: Installation) -> None:
    answer = await installation.status.head("/api/files/bulk")
    assert (answer.status_code, answer.content) == (401, b"")  # `bulk` could be the id of a file.
    answer = await installation.upload.head("/api/files/upload")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    answer = await installation.status.put("/api/stats")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_head_opens_no_stream_and_leaves_a_ticket_good(installation: Installation) -> None:
    client = installation.status
    owner = bearer(EVERYBODY["owner"])
    for path in (f"/api/stream?ids={RUNNING}", f"/api/files/{RUNNING}/process/status?stream=true"):
        ticket = (await client.post("/api/tickets", headers=owner)).json()["ticket"]
        for _ in range(2):
            head = await client.head(f"{path}&ticket={ticket}")
            assert head.status_code == 200
            assert head.headers["content-type"].startswith("text/event-stream")
        async with client.stream("GET", f"{path}&ticket={ticket}") as opened:
            assert opened.status_code == 200
        assert (await client.head(f"{path}&ticket={ticket}")).status_code == 401
        assert (await client.head(path, headers=owner)).status_code == 200
    metrics = (await client.get("/metrics")).text
    async with asyncio.timeout(10):
        while "waybill_subscribers 0.0" not in metrics:
            await asyncio.sleep(0.05)
            metrics = (await client.get("/metrics")).text


async def test_a_head_waits_for_nothing(installation: Installation) -> None:
    owner = bearer(EVERYBODY["owner"])
    path = f"/api/files/{RUNNING}/process/status"
    known = await installation.status.get(path, headers=owner)
    headers = owner | {"If-None-Match": known.headers["etag"]}
    async with asyncio.timeout(20):  # A poll would take a minute.
        answer = await installation.status.head(path, params={"wait": 60}, headers=headers)
    assert answer.status_code == 304
