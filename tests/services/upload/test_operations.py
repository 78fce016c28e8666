"""Health, metrics, CORS and the API description."""

from pathlib import Path
from typing import Any

import pytest

from services.upload.app import create_app
from services.upload.settings import UploadSettings
from tests.services.upload.service import UPLOAD, Service, running

ORIGIN = {"Origin": "https://page.example"}


async def test_the_service_says_that_it_is_live_and_ready(service: Service) -> None:
    assert (await service.client.get("/health/live")).json() == {"status": "ok"}
    assert (await service.client.get("/health/ready")).json() == {"status": "ok"}


async def test_metrics_tell_what_became_of_uploads(service: Service) -> None:
    await service.send(("a.txt", b"one"))
    metrics = (await service.client.get("/metrics")).text

    assert 'waybill_uploads_total{outcome="accepted"}' in metrics
    assert "waybill_upload_bytes_total" in metrics


def test_nothing_is_opened_before_the_service_starts(tmp_path: Path) -> None:
    create_app(UploadSettings(kafka="127.0.0.1:1", blobs=str(tmp_path / "blobs")))

    assert list(tmp_path.iterdir()) == []


class TestPagesOfOtherOrigins:
    async def test_may_upload_and_read_where_to_follow(self, service: Service) -> None:
        asking = {
            **ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        preflight = await service.client.options(UPLOAD, headers=asking)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "*"

        answer = await service.post(content=b"one", headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"]
        assert {"Location", "Retry-After"} <= {name.strip() for name in exposed.split(",")}

    async def test_may_read_refusals_too(self, settings: UploadSettings) -> None:
        async with running(settings, max_file_size=10) as service:
            answer = await service.post(content=b"x" * 11, headers=ORIGIN)

        assert answer.status_code == 413
        assert answer.headers["access-control-allow-origin"] == "*"

    @pytest.mark.parametrize(
        ("origin", "allowed"),
        [("https://page.example", "https://page.example"), ("https://other.example", None)],
    )
    async def test_can_be_limited_to_some(
        self, settings: UploadSettings, origin: str, allowed: str | None
    ) -> None:
        async with running(settings, cors_origins=("https://page.example",)) as service:
            answer = await service.post(content=b"one", headers={"Origin": origin})

        assert answer.headers.get("access-control-allow-origin") == allowed


class TestDescriptionOfTheApi:
    @pytest.fixture
    async def operation(self, service: Service) -> Any:
        description = (await service.client.get("/openapi.json")).raise_for_status().json()
        return description["paths"][UPLOAD]["post"]

    async def test_shows_both_kinds_of_body(self, operation: Any) -> None:
        content = operation["requestBody"]["content"]
        assert content.keys() == {"multipart/form-data", "application/octet-stream"}
        assert all(kind["examples"] for kind in content.values())

    async def test_shows_the_answer_and_the_problem_document(self, operation: Any) -> None:
        responses = operation["responses"]
        assert responses.keys() == {"200", "202", "default"}
        for accepted in ("200", "202"):
            assert responses[accepted]["headers"].keys() == {"Location", "Retry-After"}
        assert responses["default"]["content"].keys() == {"application/problem+json"}
