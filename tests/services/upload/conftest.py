"""A running upload service and its topic, shared by all tests of this folder."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.upload.settings import UploadSettings
from shared.kafka.messaging import create_topics
from tests.services.upload.service import Service, UploadedEvents, running, uploaded_events
from tests.support.s3 import BUCKET, ENVIRONMENT, running_s3
from waybill.local.parts import Parts


@pytest.fixture(scope="session")
async def installation(parts: Parts) -> UploadSettings:
    """Settings with separate topics for these tests."""
    settings = UploadSettings(
        kafka=parts.kafka, topic_prefix="upload-tests.", blobs_fsync=False, demo=False
    )
    await create_topics(settings)
    return settings


@pytest.fixture
async def events(installation: UploadSettings) -> AsyncIterator[UploadedEvents]:
    """The events of this test."""
    async with uploaded_events(installation) as events:
        await events.mark()
        yield events


@pytest.fixture
def settings(installation: UploadSettings, tmp_path: Path) -> UploadSettings:
    return installation.model_copy(update={"blobs": str(tmp_path / "blobs")})


@pytest.fixture(scope="session")
async def shared_service(
    installation: UploadSettings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with running(installation, blobs=str(tmp_path_factory.mktemp("blobs"))) as service:
        yield service


@pytest.fixture
def service(shared_service: Service) -> Service:
    """A service with an empty blob store."""
    shared_service.clear_blobs()
    return shared_service


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an S3-compatible server."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def on_s3(
    settings: UploadSettings, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> UploadSettings:
    """Settings with a separate prefix in the object store."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    given = {"blobs": f"s3://{BUCKET}/{tmp_path.name}", "blobs_endpoint": s3}
    return settings.model_copy(update=given)


@pytest.fixture(params=["directory", "s3"])
def anywhere(request: pytest.FixtureRequest, settings: UploadSettings) -> UploadSettings:
    """Settings with each kind of blob store."""
    if request.param == "directory":
        return settings
    on_s3: UploadSettings = request.getfixturevalue("on_s3")
    return on_s3
