"""A running Waybill as seen by the benchmarks, and no-op files that pass through it."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import websockets
from pymongo import MongoClient

from benchmarks.harness import PATIENCE, Meter, Run, Usage, usage, usage_of_stack
from shared.blobs.places import source_key
from shared.events.events import FileUploaded, UploadedData, new_file_id
from shared.kafka.publishing import Publisher
from shared.settings import DEMO_TYPE, Settings
from tests.support.stack import RunningStack

NO_WORK = b"{}"
"""A demo file that takes no time."""

AT_ONCE = 100
"""Events in flight to Kafka. With thousands, each sent batch would wake all of them."""

POLL = 0.01
"""Seconds between two polls of MongoDB: short beside the measured seconds, and little load."""


def uploaded(file_id: str, blob: str, content: bytes) -> FileUploaded:
    """Return the event of a demo file."""
    data = UploadedData(
        blob=blob,
        content_type=DEMO_TYPE,
        size=len(content),
        sha256="0" * 64,
        name="demo.json",
    )
    return FileUploaded.of(file_id, data, source="/benchmark")


async def publish(publisher: Publisher, events: Iterable[FileUploaded]) -> None:
    """Publish the uploads of files, and return when Kafka has acknowledged all."""
    rest = iter(events)
    while some := list(islice(rest, AT_ONCE)):
        await asyncio.gather(*(publisher.publish(each) for each in some))


class Installation:
    """A running stack, seen from outside."""

    name = "Waybill"

    def __init__(self, stack: RunningStack) -> None:
        described = stack.description
        self.pids: dict[str, Any] = described["pids"]
        self.upload_url = str(described["upload_url"])
        self.status_url = str(described["status_url"])
        self.settings = Settings(
            kafka=described["kafka"], mongodb=described["mongodb"], blobs=described["blobs"]
        )
        self._files: Any = MongoClient(self.settings.mongodb)[self.settings.database]["files"]

    def accepted(self) -> int:
        """Return the number of files in MongoDB, in any state."""
        count: int = self._files.estimated_document_count()
        return count

    def completed(self) -> int:
        """Return the number of completed files in MongoDB."""
        count: int = self._files.count_documents({"status": "completed"})
        return count

    def store(self, key: str, content: bytes) -> None:
        """Put a blob into the blob store."""
        path = Path(self.settings.blobs) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def publisher(self) -> Publisher:
        """Return a publisher of uploads, which connects in an `async with` block."""
        return Publisher(self.settings, client_id="benchmark")

    def usage(self) -> dict[str, Usage]:
        """Return the resources of each process; the benchmark itself is the `client`."""
        return {**usage_of_stack(self.pids), "client": usage(os.getpid())}

    async def pass_through(self, count: int) -> Run:
        """Process so many files, from their events to `completed` in MongoDB.

        Raises:
            TimeoutError: the files did not complete within `PATIENCE`.
        """
        ids = [new_file_id() for _ in range(count)]
        for file_id in ids:
            self.store(source_key(file_id), NO_WORK)
        async with asyncio.timeout(PATIENCE), self.publisher() as publisher:
            meter = Meter(self.usage)
            await publish(publisher, (uploaded(each, source_key(each), NO_WORK) for each in ids))
            while not self._are_completed(ids):
                await asyncio.sleep(POLL)
            return meter.stop(count)

    def _are_completed(self, ids: Sequence[str]) -> bool:
        """Return True if all of these files are completed in MongoDB.

        While a file is in progress, one key of an index answers this. Counting all files took up
        to a third of a core.
        """
        if self._files.find_one({"status": {"$in": ["pending", "processing"]}}, {"_id": True}):
            return False
        wanted = {"_id": {"$in": ids}, "status": "completed"}
        completed: int = self._files.count_documents(wanted)
        return completed == len(ids)

    async def one_at_a_time(self, count: int) -> list[float]:
        """Return the seconds from each file's 202 to its `completed` on a WebSocket."""
        socket_url = self.status_url.replace("http", "ws", 1) + "/api/ws"
        took: list[float] = []
        async with (
            httpx.AsyncClient(trust_env=False) as http,
            websockets.connect(socket_url, compression=None) as socket,
        ):
            await socket.send('{"type": "subscribe"}')
            await socket.recv()
            for _ in range(count):
                answer = await http.post(
                    f"{self.upload_url}/api/files/upload",
                    content=NO_WORK,
                    headers={"Content-Type": DEMO_TYPE},
                )
                accepted = time.monotonic()
                file_id = answer.raise_for_status().json()["file_id"]
                async with asyncio.timeout(30):
                    while not _is_completed(await socket.recv(), file_id):
                        pass
                took.append(time.monotonic() - accepted)
        return took


@contextmanager
def running_waybill(*options: str, workers: int) -> Iterator[Installation]:
    """Run a separate Waybill during the `with` block.

    Args:
        options: options of `waybill up`.
        workers: worker processes of a pod, one more than the value of the setting.
    """
    with tempfile.TemporaryDirectory() as folder:
        stack = RunningStack.start(Path(folder), *options, WAYBILL_WORKERS=str(workers - 1))
        try:
            yield Installation(stack)
        finally:
            stack.stop()


def _is_completed(message: str | bytes, file_id: str) -> bool:
    told = json.loads(message)
    if told["type"] != "status":
        return False
    status = told["status"]
    return bool(status["file_id"] == file_id and status["status"] == "completed")
