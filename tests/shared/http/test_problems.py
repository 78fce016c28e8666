"""Every error over HTTP is a problem document."""

import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from shared.errors import (
    BlobStoreUnavailableError,
    KafkaUnavailableError,
    MongoUnavailableError,
    OverloadedError,
    TooLargeError,
    WaybillError,
)
from shared.http import problems
from shared.http.problems import problem_response


def application() -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.get("/refused")
    async def refused() -> None:
        raise TooLargeError("It has 9 bytes; at most 8 are accepted.")

    @app.get("/unavailable")
    async def unavailable() -> None:
        raise KafkaUnavailableError("later", members={"accepted": ["a"]}) from OSError("refused")

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("secret")

    @app.get("/gone")
    async def gone() -> None:
        raise ClientDisconnect

    @app.get("/number")
    async def number(n: int) -> int:
        return n

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_refusal_says_what_was_wrong(client: httpx.AsyncClient) -> None:
    answer = await client.get("/refused")

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:waybill:problem:too_large",
        "title": "The file is larger than this service accepts.",
        "status": 413,
        "code": "too_large",
        "detail": "It has 9 bytes; at most 8 are accepted.",
        "instance": "/refused",
    }


async def test_an_unavailable_part_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    answer = await client.get("/unavailable")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


async def test_an_error_may_say_more_in_members_of_its_own(client: httpx.AsyncClient) -> None:
    answer = await client.get("/unavailable")

    assert answer.json()["accepted"] == ["a"]


async def test_the_log_names_the_cause_that_the_client_need_not_know(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.get("/unavailable")

    assert "refused" not in answer.text
    assert "OSError('refused')" in caplog.text


async def test_a_bug_is_a_problem_that_gives_nothing_away(client: httpx.AsyncClient) -> None:
    answer = await client.get("/bug")

    assert answer.status_code == 500
    assert answer.json()["code"] == WaybillError.code
    assert "secret" not in answer.text


async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/number?n=many")

    assert answer.status_code == 422
    assert answer.json()["code"] == "bad_parameter"
    assert "query.n" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/no", 404), ("PUT", "/bug", 405)])
async def test_what_the_framework_refuses_is_a_problem_too(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == f"http_{status}"


async def test_a_client_that_went_away_is_no_error(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/gone")

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "error",
    [
        KafkaUnavailableError("Kafka at 10.0.0.7:9092 does not answer: ConnectionRefusedError()"),
        MongoUnavailableError("MongoDB does not answer: mongo.internal:27017: timed out"),
        BlobStoreUnavailableError("/srv/blobs is not there"),
        WaybillError("/opt/waybill/shared/secrets.py"),
    ],
)
def test_what_is_wrong_inside_is_for_the_log_and_not_for_clients(error: WaybillError) -> None:
    problem = json.loads(bytes(problem_response(error, instance="/").body))

    assert problem["detail"] == error.title
    assert not any(part in problem["detail"] for part in ("10.0.0.7", "internal", "/"))


def test_what_helps_a_client_is_told() -> None:
    full = OverloadedError("64 uploads are in work")
    half = KafkaUnavailableError("1 of 2 files were accepted", members={"accepted": []})

    for error in (full, half):
        problem = json.loads(bytes(problem_response(error, instance="/").body))
        assert problem["detail"] == error.detail
