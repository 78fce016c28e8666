"""Malicious uploads break nothing, are stored nowhere else, and do not grow memory."""

import asyncio
import re
from pathlib import Path
from uuid import UUID

from services.upload.body.names import clean_name
from services.upload.settings import UploadSettings
from tests.services.upload.hostile import CORPUS, Hostile
from tests.services.upload.service import Service, UploadedEvents
from tests.services.upload.test_process import MEGABYTE, started

AT_ONCE = 8

PATIENCE = 3.0
"""Seconds to wait for an answer."""


async def exchange(port: int, hostile: Hostile) -> list[int]:
    """Return the statuses of the answers; none if the service closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(hostile.raw)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read()
        except TimeoutError:  # The service still waits for the rest.
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read()
    except ConnectionError:
        return []
    finally:
        writer.close()
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert statuses or not answer, f"{hostile.name}: {answer[:100]!r}"
    return [int(status) for status in statuses]


async def send_all(port: int) -> dict[str, list[int]]:
    """Send the whole corpus, a few at a time, and return the statuses of each."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def send(hostile: Hostile) -> list[int]:
        async with turns:
            return await exchange(port, hostile)

    outcomes = await asyncio.gather(*map(send, CORPUS))
    return dict(zip((each.name for each in CORPUS), outcomes, strict=True))


async def test_nothing_breaks_or_lands_elsewhere(service: Service, events: UploadedEvents) -> None:
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS) >= 200
    store = Path(service.settings.blobs)
    beside = set(store.parent.iterdir())

    outcomes = await send_all(service.port)

    answered = [code for codes in outcomes.values() for code in codes]
    assert set(answered) <= {202, 400, 408, 413, 415, 422}, outcomes
    assert beside == set(store.parent.iterdir())
    published = {event.file_id: event.data for event in await events.all()}
    assert len(published) == answered.count(202) > 100
    folders = [store / name for name in ("sources", "packs", "idempotency")]
    assert all(path.parent in folders for path in store.rglob("*") if path.is_file())
    for file_id, content in service.files().items():
        assert UUID(file_id).version == 7
        assert published[file_id].size == len(content)
    for data in published.values():
        assert data.name == clean_name(data.name)
        assert len(data.name) <= 255


async def test_memory_does_not_grow(settings: UploadSettings) -> None:
    async with started(settings) as process:
        port = process.client.base_url.port
        assert port is not None
        await send_all(port)
        before = process.peak_memory()

        await send_all(port)

        assert process.peak_memory() - before < 8 * MEGABYTE
        assert (await process.client.get("/health/ready")).json() == {"status": "ok"}
