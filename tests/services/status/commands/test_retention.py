"""Files are deleted when they are old enough, by the first rule that matches them."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import ValidationError

from services.status.app import create_app
from services.status.commands.deletion import Deletions
from services.status.commands.retention import Retention
from services.status.retention_rules import Rule
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.events.events import first_file_id, utc_now
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, status_path, wait_for
from tests.support.builders import completed, processing, uploaded
from tests.support.serving import served, until_ready

RULES = (
    Rule(label="kind:ledger", days=3650),
    Rule(tenant="acme", days=3),
    Rule(owner="ann", days=2),
    Rule(days=30),
)


def id_of(days: int, number: int) -> str:
    """Return the id of a file that was uploaded some days ago."""
    then = utc_now() - timedelta(days=days)
    return first_file_id(then)[:-4] + f"{number:04x}"


async def test_the_first_rule_that_is_for_a_file_decides_when_it_is_deleted(
    status_settings: StatusSettings, publisher: Publisher, store: FileStore
) -> None:
    uploads = {
        "an old one of ann's": (3, uploaded(owner="ann"), True),
        "a young one of ann's": (1, uploaded(owner="ann"), False),
        "a ledger of ann's": (3, uploaded(owner="ann", labels={"kind": "ledger"}), False),
        "one of bob's": (4, uploaded(owner="bob"), False),
        "one of acme's": (4, uploaded(owner="bob", tenant="acme"), True),
        "an old one of bob's": (31, uploaded(owner="bob"), True),
        "one that is held": (31, uploaded(owner="bob", labels={"legal_hold": "case 7"}), False),
    }
    ids = {name: id_of(days, n) for n, (name, (days, _, _)) in enumerate(uploads.items())}
    under_way = id_of(31, 99)
    app = create_app(status_settings)
    async with served(app) as client:
        await until_ready(client)
        for name, (_, event, _) in uploads.items():
            await publish(publisher, ids[name], event, completed())
            await wait_for(client, ids[name], "completed")
        await publish(publisher, under_way, uploaded(), processing())
        await wait_for(client, under_way, "processing")
        async with asyncio.timeout(20):  # Lists lag slightly.
            while len((await client.get("/api/files")).json()["items"]) < 8:
                await asyncio.sleep(0.05)
        retention = Retention(RULES, store, Deletions(app.state.hub, publisher))
        assert await retention.apply(utc_now()) == 3
        for name, (_, _, is_deleted) in uploads.items():
            answer = await client.get(status_path(ids[name]))
            assert answer.status_code == (410 if is_deleted else 200), name
        assert (await client.get(status_path(under_way))).status_code == 200


def test_rules_are_given_as_json_and_a_mistake_in_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAYBILL_RETENTION", '[{"owner": "ann", "days": 2}, {"days": 30}]')
    assert StatusSettings().retention == RULES[2:]
    monkeypatch.setenv("WAYBILL_RETENTION", '[{"day": 30}]')
    with pytest.raises(ValidationError, match=r"retention\.0\.days"):
        StatusSettings()
