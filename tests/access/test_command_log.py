"""Every command is recorded with its caller before it is carried out."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.events.events import FileCommanded, new_file_id
from shared.events.topics import COMMANDS
from shared.settings import Settings
from tests.access.installation import RUNNING, UNKNOWN, Installation, ours, running
from tests.access.people import EVERYBODY, KEYS, WHO, bearer
from tests.support.builders import completed, processing
from tests.support.consuming import consume


@pytest.fixture
async def installation(settings: Settings) -> AsyncIterator[Installation]:
    async with running(settings) as started:
        yield started


async def test_a_command_is_noted_with_who_gave_it(
    installation: Installation, settings: Settings
) -> None:
    done, other = new_file_id(), new_file_id()
    await installation.publish(done, ours(), processing(), completed())
    await installation.publish(other, ours())

    async def give(who: str, method: str, path: str, json: object = None) -> int:
        answer = await installation.status.request(
            method, path, headers=bearer(EVERYBODY[who]), json=json
        )
        return answer.status_code

    files = "/api/files"
    async with asyncio.timeout(20):  # The pod must know the end before it accepts a retry.
        state = None
        while state != "completed":
            path, owner = f"{files}/{done}?wait=5", bearer(EVERYBODY["owner"])
            state = (await installation.status.get(path, headers=owner)).json().get("status")
    assert await give("owner", "POST", f"{files}/{RUNNING}/cancel?reason=too+slow") == 202
    assert await give("operator by key", "POST", f"{files}/{done}/retry?force=true") == 202
    bulk = {"action": "delete", "files": {"ids": [other, UNKNOWN]}}
    assert await give("operator", "POST", f"{files}/bulk", json=bulk) == 200
    assert await give("admin", "DELETE", f"{files}/{done}") == 202
    assert await give("other", "DELETE", f"{files}/{RUNNING}") == 404

    noted = {
        (event.data.command, event.file_id): event.data
        for event in await consume(settings, COMMANDS, 4)
        if isinstance(event, FileCommanded)
    }
    assert {key: (data.by, data.tenant) for key, data in noted.items()} == {
        ("cancel", RUNNING): WHO["owner"],
        ("retry", done): WHO["operator by key"],
        ("delete", other): WHO["operator"],
        ("delete", done): WHO["admin"],
    }
    assert noted["cancel", RUNNING].reason == "too slow"
    assert noted["retry", done].api_key == KEYS["operator by key"][0].id
