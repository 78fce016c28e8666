"""Many clients, some disconnecting early: nothing is lost and nothing is left behind."""

from pathlib import Path

from services.upload.settings import UploadSettings
from shared.blobs.blobs import BLOCK
from tests.services.upload.service import UploadedEvents, running
from tests.support.crowd import visits
from tests.support.stored import contents
from tests.support.sweeping import sweep_all

CLIENTS = 1000
AT_ONCE = 100
"""More than the service admits, so that some are rejected."""


async def test_every_202_is_a_file_and_all_else_is_nothing(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    async with running(settings, demo=True) as service:
        sizes = (100, 20_000, BLOCK + 1)
        seen = await visits(service.port, clients=CLIENTS, at_once=AT_ONCE, sizes=sizes)
    await sweep_all(settings)

    published = {event.file_id: event.data for event in await events.all()}

    assert {visit.status for visit in seen} <= {202, 503, None}
    accepted = {
        visit.name: visit.answer["file_id"]
        for visit in seen
        if visit.status == 202 and visit.answer
    }
    assert len(accepted) > CLIENTS / 10
    assert set(accepted.values()) <= published.keys()
    refused = {visit.name for visit in seen if visit.status == 503}
    assert not refused & {data.name for data in published.values()}
    left = {file_id: len(content) for file_id, content in contents(settings.blobs).items()}
    assert left == {file_id: data.size for file_id, data in published.items()}
    assert list(Path(settings.blobs, "staged").iterdir()) == []
