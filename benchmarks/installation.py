"""A running Waybill as the benchmarks see it, and what it does with files of no work."""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import websockets
from pymongo import MongoClient

from benchmarks.harness import PATIENCE, Run, Usage, usage, usage_of_stack
from shared.blobs import source_key
from shared.events import FileUploaded, UploadedData, new_file_id
from shared.messaging import DirectPublisher
from shared.settings import DEMO_TYPE, Settings
from tests.support.stack import RunningStack

NO_WORK = b"{}"
"""A demo file that takes no time."""

POLL = 0.05
"""Seconds between two looks at MongoDB: fine beside the seconds measured, and little load."""


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

    def completed(self) -> int:
        """How many files MongoDB shows as completed."""
        count: int = self._files.count_documents({"status": "completed"})
        return count

    def store_sources(self, count: int) -> list[str]:
        """Put so many files into the blob store; returns their ids."""
        ids = [new_file_id() for _ in range(count)]
        for file_id in ids:
            path = Path(self.settings.blobs) / source_key(file_id)
            path.parent.mkdir(parents=True)
            path.write_bytes(NO_WORK)
        return ids

    async def publish(self, file_ids: Sequence[str]) -> None:
        """Tell Kafka that these files came in."""
        publisher = DirectPublisher(self.settings, client_id="benchmark")
        await publisher.start()
        events = (
            FileUploaded.of(
                file_id,
                UploadedData(
                    blob=source_key(file_id),
                    content_type=DEMO_TYPE,
                    size=len(NO_WORK),
                    sha256="0" * 64,
                    name="noop.json",
                ),
                source="/benchmark",
            )
            for file_id in file_ids
        )
        await asyncio.gather(*(publisher.publish(event) for event in events))
        await publisher.stop()

    def _usage(self) -> dict[str, Usage]:
        return {**usage_of_stack(self.pids), "client": usage(os.getpid())}

    async def pass_through(self, count: int) -> Run:
        """Have so many files processed, from their events to `completed` in MongoDB.

        Raises:
            TimeoutError: they were not completed in time.
        """
        ids = self.store_sources(count)
        goal = self.completed() + count
        before = self._usage()
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await self.publish(ids)
            while self.completed() < goal:
                await asyncio.sleep(POLL)
        return Run.between(count, time.monotonic() - begun, before, self._usage())

    async def one_at_a_time(self, count: int) -> list[float]:
        """Seconds from each file's 202 to its `completed` on a WebSocket."""
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


def _is_completed(message: str | bytes, file_id: str) -> bool:
    status = json.loads(message)["status"]
    return bool(status["file_id"] == file_id and status["status"] == "completed")
