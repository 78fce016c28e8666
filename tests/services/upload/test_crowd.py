"""A crowd of clients, some of whom go away in the middle, loses nothing and leaves nothing."""

import asyncio
import json
import random
from datetime import timedelta
from pathlib import Path

import pytest

from services.upload import orphans, sweep
from services.upload.orphans import Orphans
from services.upload.settings import UploadSettings
from shared.blobs import BLOCK, open_blob_store
from tests.services.upload.hostile import FILE, form, part
from tests.services.upload.service import UploadedEvents, running

CLIENTS = 1000
AT_ONCE = 100
"""More than the service takes, so that some are turned away."""

FAITHFUL = 0.6
"""How many stay to the end."""


async def visit(port: int, dice: random.Random) -> str | None:
    """Upload something, or go away half way; returns the id of what was accepted."""
    content = dice.randbytes(dice.choice([100, 20_000, BLOCK + 1]))
    raw = form(part(FILE, content))
    if dice.random() > FAITHFUL:
        raw = raw[: dice.randrange(len(raw))]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        await writer.drain()
        if not raw.endswith(b"--frontier--\r\n"):
            await asyncio.sleep(dice.random() / 20)
            writer.transport.abort()
            return None
        if dice.random() > FAITHFUL:  # It does not wait for its answer.
            writer.transport.abort()
            return None
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 202 ", b"HTTP/1.1 503 ")), head
        return str(json.loads(body)["file_id"]) if b" 202 " in head[:13] else None
    except ConnectionError:
        return None
    finally:
        writer.close()


async def test_every_202_is_a_file_and_all_else_is_nothing(
    settings: UploadSettings, events: UploadedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "ORPHANED", timedelta(0))
    monkeypatch.setattr(sweep, "STAGED_FOR", timedelta(0))
    dice = random.Random(7)
    turns = asyncio.Semaphore(AT_ONCE)
    async with running(settings) as service:

        async def visit_in_turn() -> str | None:
            async with turns:
                return await visit(service.port, dice)

        outcomes = await asyncio.gather(*(visit_in_turn() for _ in range(CLIENTS)))
        accepted = {file_id for file_id in outcomes if file_id}
    blobs = open_blob_store(settings)
    await sweep.sweep_staged(blobs)
    await Orphans(settings, blobs).sweep()

    published = {event.file_id: event.data.size for event in await events.all()}

    assert len(accepted) > CLIENTS / 10
    assert accepted <= published.keys()
    left = {path.name: path.stat().st_size for path in Path(settings.blobs, "sources").iterdir()}
    assert left == published
    assert list(Path(settings.blobs, "staged").iterdir()) == []
