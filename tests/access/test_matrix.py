"""Every endpoint, asked by everybody: what is found in the OpenAPI documents is asked here."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI

from services.status.app import create_app as create_status
from services.status.settings import StatusSettings
from services.upload.app import create_app as create_upload
from services.upload.settings import UploadSettings
from shared.messaging import Publisher
from shared.settings import Settings
from tests.access.people import NOBODY, SECRET, bearer
from tests.support.builders import FILE
from tests.support.serving import served

PUBLIC = {"/health/live", "/health/ready", "/asyncapi.json", "/api/config"}
"""What tells nothing of anybody's files."""

PARAMETERS = {"file_id": FILE, "name": "text.txt", "partition": "0", "offset": "0"}

Operation = tuple[str, str]


def operations(app: FastAPI) -> list[Operation]:
    """Method and path of every operation that the document has."""
    document: dict[str, Any] = app.openapi()
    return [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if path not in PUBLIC
    ]


JWT: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET}
STATUS = operations(create_status(StatusSettings(**JWT)))
UPLOAD = operations(create_upload(UploadSettings(**JWT)))


@pytest.fixture
async def status(
    settings: Settings,
    publisher: Publisher,  # noqa: ARG001 - it creates the topics
) -> AsyncIterator[httpx.AsyncClient]:
    given = StatusSettings(**settings.model_dump(), **JWT)
    async with served(create_status(given)) as client:
        yield client


@pytest.fixture
async def upload(
    settings: Settings,
    publisher: Publisher,  # noqa: ARG001
) -> AsyncIterator[httpx.AsyncClient]:
    given = UploadSettings(**settings.model_dump(), **JWT)
    async with served(create_upload(given)) as client:
        yield client


def assert_is_refused(answer: httpx.Response, who: str) -> None:
    code = {"anonymous": "unauthenticated", "expired": "token_expired"}.get(who, "invalid_token")
    assert (answer.status_code, answer.json()["code"]) == (401, code), (who, answer.request.url)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_nobody_without_a_good_token_is_told_anything(
    status: httpx.AsyncClient, upload: httpx.AsyncClient
) -> None:
    assert STATUS
    assert UPLOAD
    for client, known in ((status, STATUS), (upload, UPLOAD)):
        for method, path in known:
            for who, credential in NOBODY.items():
                answer = await client.request(
                    method, path.format(**PARAMETERS), headers=bearer(credential)
                )
                assert_is_refused(answer, who)


async def test_nobody_without_a_good_token_opens_a_socket(status: httpx.AsyncClient) -> None:
    address = str(status.base_url).replace("http", "ws") + "/api/ws"
    for credential in NOBODY.values():
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(address, additional_headers=bearer(credential)):
                pass
        assert refused.value.response.status_code == 401
