"""An upload and a status service with authentication, and files of ada in the tenant acme."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.status.app import create_app as create_status
from services.status.projection.projection import fold
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from services.upload.app import create_app as create_upload
from services.upload.settings import UploadSettings
from shared.auth.apikeys import ApiKeys
from shared.auth.sealed import Seal
from shared.blobs.blobs import open_blob_store
from shared.blobs.places import source_key
from shared.events.events import FileDead, StatusEvent
from shared.events.facts import DeadCode, DeadData
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.access.people import EVERYBODY, KEYS, SECRET, bearer
from tests.services.status.asking import wait_for
from tests.support.builders import about, completed, processing, shared, unshared, uploaded
from tests.support.serving import served, until_ready
from waybill.local.parts import Parts

SEAL = Seal(SECRET.encode())

JWT: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET}

STORED = "01930000-0000-7000-8000-00000000000a"
"""A completed file that only MongoDB knows."""
RUNNING = "01930000-0000-7000-8000-00000000000b"
"""A file in progress, known from the tail of the log."""
UNKNOWN = "01930000-0000-7000-8000-00000000000c"
"""An id without a file."""

SHARED = (shared("carl"), shared("dora"), unshared("dora"))
"""Sharing events of both files."""


@dataclass(frozen=True)
class Installation:
    """The services, with a publisher for events."""

    status: httpx.AsyncClient
    upload: httpx.AsyncClient
    publisher: Publisher
    keys: ApiKeys

    async def publish(self, file_id: str, *events: StatusEvent) -> None:
        for event in events:
            await self.publisher.publish(about(file_id, event))


def ours(**changes: Any) -> StatusEvent:
    """Return the upload event of a file of ada in acme."""
    return uploaded(**{"owner": "ada", "tenant": "acme"} | changes)


def settings_of(parts: Parts, folder: Path, name: str) -> Settings:
    """Return the settings of an installation that several tests share."""
    return Settings(
        kafka=parts.kafka,
        mongodb=parts.mongodb,
        database=name,
        topic_prefix=f"{name}.",
        blobs=str(folder),
        blobs_fsync=False,
    )


@asynccontextmanager
async def status_pod(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run a pod of the status service with authentication, and yield a client once it is ready."""
    pod = StatusSettings(**settings.model_dump(), **JWT, heartbeat=0.5)
    async with served(create_status(pod)) as client:
        await until_ready(client)
        yield client


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Installation]:
    """Run both services on a Kafka and a MongoDB of their own."""
    await create_topics(settings)
    await _store(settings)
    async with (
        Publisher(settings, client_id="tests") as publisher,
        status_pod(settings) as status,
        served(create_upload(UploadSettings(**settings.model_dump(), **JWT))) as upload,
    ):
        await until_ready(upload)
        keys = ApiKeys(open_blob_store(settings), seal=SEAL)
        installation = Installation(status, upload, publisher, keys)
        await installation.publish(RUNNING, ours(), processing(), *SHARED)
        await publisher.publish(dead_letter(RUNNING))
        status.headers.update(bearer(EVERYBODY["admin"]))
        await wait_for(status, RUNNING, "processing")
        del status.headers["Authorization"]
        await _until_shared(status)
        yield installation


async def _until_shared(status: httpx.AsyncClient) -> None:
    """Wait until the lists, which read from MongoDB, have caught up with the streams."""
    async with asyncio.timeout(20):
        while True:
            answer = await status.get("/api/files", headers=bearer(EVERYBODY["reader"]))
            if RUNNING in members(answer):
                return
            await asyncio.sleep(0.05)


async def _store(settings: Settings) -> None:
    store = FileStore(settings)
    await store.prepare()
    # Before all its records in the log.
    events = [about(STORED, each) for each in (ours(), processing(), completed(), *SHARED)]
    folded = fold(None, [(event, place - len(events)) for place, event in enumerate(events)])
    assert folded is not None
    assert folded.result is not None
    await store.save([(None, folded)])
    store.close()
    blobs = open_blob_store(settings)
    for key, _ in KEYS.values():
        await ApiKeys(blobs, seal=SEAL).add(key)
    await blobs.put(source_key(STORED), b"s" * 1234)
    await blobs.put(source_key(RUNNING), b"s" * 1234)
    await blobs.put(f"{folded.result.prefix}/text.txt", b"a text.")


def dead_letter(file_id: str) -> FileDead:
    data = DeadData(
        topic="file.uploaded",
        partition=0,
        offset=0,
        reason="unreadable",
        payload="",
        code=DeadCode.UNREADABLE.value,
    )
    return FileDead.of(file_id, data, source="/status")


def without_id(answer: httpx.Response, file_id: str) -> tuple[int, dict[str, str], str]:
    """Return a response's status, headers and body without the date and the file id."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.text.replace(file_id, "<id>")


def members(answer: httpx.Response) -> set[str]:
    """Return the ids of the files in a list."""
    assert answer.status_code == 200, answer.text
    return {item["file_id"] for item in json.loads(answer.text)["items"]}
