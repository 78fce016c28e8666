"""The upload service recovers when any of its background loops is killed."""

import asyncio

from services.upload import loops
from services.upload.app import create_app
from services.upload.http.large_body_protocol import LargeBodies
from services.upload.settings import UploadSettings
from tests.services.upload.service import UploadedEvents
from tests.support.killing import kill_each
from tests.support.serving import served, until_ready


async def test_every_loop_that_is_killed_is_back_and_uploads_reach_kafka(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    everything = settings.model_copy(update={"deduplicate": "asked", "owner_uploads": 1000})
    app = create_app(everything)
    async with served(app, http=LargeBodies) as client:
        await until_ready(client)
        supervisor = app.state.supervisor
        assert set(supervisor.names) == {each.name for each in loops.LOOPS}
        await kill_each(supervisor, loops.LOOPS)
        async with asyncio.timeout(30):
            while "note" in (await client.get("/health/ready")).json():
                await asyncio.sleep(0.05)  # The connection to Kafka is being reopened.
        await events.mark()
        answer = await client.post("/api/files/upload", files={"file": ("a.txt", b"x")})
        assert answer.status_code == 202
        event = await events.one()
        assert event.file_id == answer.json()["file_id"]
