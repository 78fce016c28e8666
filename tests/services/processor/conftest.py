"""Shared fixtures for pod tests: settings and blob store."""

import pytest

from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.settings import Settings


@pytest.fixture
def processor_settings(settings: Settings) -> ProcessorSettings:
    return ProcessorSettings(
        **settings.model_dump(), workers=2, backoff_first=0.2, time_limit=20, pod="pod-a"
    )


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return open_blob_store(settings)
