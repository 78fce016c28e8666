"""The cost of a 202: the bare handler with an fsync and an event in Kafka.

It is the plainest handler with the same guarantee. Before the answer, the file and its name are on
the disk, and all in-sync replicas have an event of the usual size.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request, UploadFile

from shared.events.topics import UPLOADED
from shared.http.serving import serve
from shared.settings import Settings

EVENT = b"x" * 700
"""An event as long as a `file.uploaded`."""

settings = Settings()
folder = Path(settings.blobs)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, AIOKafkaProducer]]:
    """Connect to Kafka."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    await producer.start()
    yield {"producer": producer}
    await producer.stop()


app = FastAPI(lifespan=lifespan)


def store(name: str, content: bytes) -> None:
    """Force the file and its name to the disk."""
    with (folder / name).open("xb", buffering=0) as file:
        file.write(content)
        os.fdatasync(file.fileno())
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@app.post("/api/files/upload", status_code=202)
async def upload(request: Request, file: UploadFile) -> dict[str, str | None]:
    """Accept a file and answer once it is durable."""
    name = uuid.uuid4().hex
    await asyncio.to_thread(store, name, await file.read())
    topic = settings.topic_prefix + UPLOADED.name
    await request.state.producer.send_and_wait(topic, EVENT, key=name.encode())
    return {"file_id": name}


if __name__ == "__main__":
    serve(app, settings)
