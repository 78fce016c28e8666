"""The API conforms to its OpenAPI document, for valid and invalid requests."""

import asyncio
from typing import Any

import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from tests.services.upload.service import Service
from tests.support.openapi import Check, check_all

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

EXAMPLES = 20
"""Requests per operation and mode."""


def prepare(case: Case[Any], mode: GenerationMode, number: int) -> list[Check]:  # noqa: ARG001
    """Skip checks that do not apply: the document cannot say which file is accepted, and unknown
    parameters are ignored."""
    return [negative_data_rejection, positive_data_acceptance, ignored_auth]


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
async def test_every_answer_is_as_the_openapi_document_says(service: Service) -> None:
    address = str(service.client.base_url).rstrip("/")

    assert await asyncio.to_thread(check_all, address, prepare, examples=EXAMPLES) >= 9
