"""The OpenAPI document is accurate: responses match it, and no allowed request causes a 5xx."""

import asyncio
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel
from schemathesis import Case, GenerationMode
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
from shared.events.events import new_file_id
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, wait_for
from tests.support.builders import completed, failed, processing, uploaded
from tests.support.openapi import Check, check_all
from tests.support.serving import served, until_ready

EXAMPLES = 15
"""Requests per operation and mode. Ten times as many found no further failures."""

WEBHOOKS = "/api/webhooks"
"""Accepts public addresses only, which a schema cannot express."""

ENDLESS = "/api/stream"
"""Responds until the client disconnects. Other tests check its content."""


def prepare(known: list[str], case: Case[Any], mode: GenerationMode, number: int) -> list[Check]:
    """Direct most requests to existing files, and do not delete these."""
    # Deleted files would be missing for all later requests.
    if "file_id" in case.path_parameters and number % 3 and case.method != "DELETE":
        case.path_parameters["file_id"] = known[number % len(known)]
    if isinstance(case.body, dict) and case.body.get("action") == "delete":
        case.body["action"] = "cancel"
    if isinstance(case.query, dict):
        case.query.pop("stream", None)
        if mode is GenerationMode.POSITIVE:
            case.query.pop("cursor", None)  # Only cursors of the service are valid.
    # Unknown parameters are allowed, since newer clients may send them. Any token is allowed where
    # authentication is off.
    allowed: list[Check] = [negative_data_rejection, ignored_auth]
    if case.path == WEBHOOKS:
        allowed.append(positive_data_acceptance)
    return allowed


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
        address = str(client.base_url).rstrip("/")
        found = await asyncio.to_thread(
            check_all, address, partial(prepare, known), examples=EXAMPLES, endless=ENDLESS
        )
        assert found > 10
