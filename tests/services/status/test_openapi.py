"""The OpenAPI document is true: whatever it allows is answered as it says, and never by a 5xx."""

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from services.status.api import examples
from services.status.api.documents import StatusDocument
from services.status.api.files import History
from services.status.api.listing import FilePage
from services.status.api.stats import Stats
from services.status.app import create_app
from services.status.settings import StatusSettings
from shared.events import new_file_id
from shared.messaging import Publisher
from tests.services.status.asking import publish, wait_for
from tests.support.builders import completed, failed, processing, uploaded
from tests.support.serving import served, until_ready

Operation = APIOperation[Any, Any, Any, Any]

EXAMPLES = 15
"""Requests of each operation and mode. Ten times as many found nothing more."""

WEBHOOKS = "/api/webhooks"
"""Takes public addresses only, which no schema can say."""

ENDLESS = "/api/stream"
"""Answers for as long as the client listens: what it says is checked elsewhere."""


def check(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, known: list[str]
) -> None:
    """Send what the document allows, or what it does not, and hold the answers against it."""
    turn = iter(range(10**6))

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def every_answer_conforms(case: Case[Any]) -> None:
        number = next(turn)
        # What is deleted would be missing to all that follow.
        if "file_id" in case.path_parameters and number % 3 and case.method != "DELETE":
            case.path_parameters["file_id"] = known[number % len(known)]
        if isinstance(case.body, dict) and case.body.get("action") == "delete":
            case.body["action"] = "cancel"
        if isinstance(case.query, dict):
            case.query.pop("stream", None)
            if mode is GenerationMode.POSITIVE:
                case.query.pop("cursor", None)  # No text but one that the service gave is right.
        # Parameters that nobody knows are allowed, as a newer client may send them, and so is any
        # token where nobody is asked for one.
        allowed = [negative_data_rejection, ignored_auth]
        if case.path == WEBHOOKS:
            allowed.append(positive_data_acceptance)
        case.call_and_validate(timeout=10, excluded_checks=allowed)

    every_answer_conforms()


@pytest.mark.parametrize(
    ("example", "model"),
    [
        (examples.STATUS, StatusDocument),
        (examples.PAGE, FilePage),
        (examples.EVENTS, History),
        (examples.STATS, Stats),
    ],
    ids=["status", "page", "events", "stats"],
)
def test_an_example_is_an_answer_as_it_looks(example: Any, model: type[BaseModel]) -> None:
    shown = model.model_validate(example).model_dump(mode="json")
    for each in shown.get("items", []):
        if model is FilePage:
            del each["history"]
    assert shown == example


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
async def test_every_answer_is_as_the_openapi_document_says(
    status_settings: StatusSettings, publisher: Publisher
) -> None:
    known = [new_file_id() for _ in range(4)]
    quick = status_settings.model_copy(update={"max_wait": 0.01})
    async with served(create_app(quick)) as client:
        await until_ready(client)
        for file_id in known:
            await publish(publisher, file_id, uploaded())
        await publish(publisher, known[1], processing())
        await publish(publisher, known[2], processing(), completed())
        await publish(publisher, known[3], processing(), failed())
        await wait_for(client, known[3], "failed")
        await asyncio.to_thread(check_all, client, known)


def check_all(client: httpx.AsyncClient, known: list[str]) -> None:
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    operations = list(schema.exclude(path=ENDLESS).get_all_operations())
    assert len(operations) > 10
    for found in operations:
        assert isinstance(found, Ok)
        check(found.ok(), GenerationMode.POSITIVE, known)
        with suppress(Unsatisfiable):  # Without parameters, nothing is forbidden.
            check(found.ok(), GenerationMode.NEGATIVE, known)
