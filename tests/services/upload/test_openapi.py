"""The API answers as its OpenAPI document says, whatever the document allows or forbids."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from tests.services.upload.service import Service

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

EXAMPLES = 20
"""Requests of each operation and mode."""


def check(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> None:
    """Send what the document allows, or what it does not, and hold the answers against it."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def every_answer_conforms(case: Case[Any]) -> None:
        # A document cannot say which file is acceptable, and unknown parameters are passed over.
        allowed = [negative_data_rejection, positive_data_acceptance, ignored_auth]
        case.call_and_validate(timeout=10, excluded_checks=allowed)

    every_answer_conforms()


def check_all(address: str) -> int:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    for operation in operations:
        check(operation, GenerationMode.POSITIVE)
        with suppress(Unsatisfiable):  # Without parameters, nothing is forbidden.
            check(operation, GenerationMode.NEGATIVE)
    return len(operations)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
async def test_every_answer_is_as_the_openapi_document_says(service: Service) -> None:
    address = str(service.client.base_url).rstrip("/")

    assert await asyncio.to_thread(check_all, address) >= 9
