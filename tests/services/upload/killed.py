"""Run upload services that kill themselves at one step: `python -m tests.services.upload.killed`.

Reads lines of JSON, `{"step": …, "blob_writer": …, "environment": {…}}`. For each line, it runs a
service until it dies. Each service is a fork, so that modules are imported only once.
"""

import functools
import inspect
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from services.upload.app import create_app
from services.upload.body.body import _BodyReader
from services.upload.http.large_body_protocol import LargeBodies
from services.upload.intake.idempotency import IdempotencyKeys
from services.upload.intake.outbox import Outbox
from services.upload.settings import UploadSettings
from shared.blobs.blob_writer_client import BlobWriterClient
from shared.blobs.blobs import BlobStore
from shared.blobs.directory import Directory
from shared.blobs.files import Piece, StagedFile
from shared.errors import KafkaUnavailableError
from shared.http.serving import serve
from shared.kafka.publishing import Publisher

Patch = Callable[[], None]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(owner: type, name: str, *, first: Patch | None, then: Patch | None) -> None:
    """Wrap a method to call a patch before or after it."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def plain(*args: Any, **kwargs: Any) -> Any:
        if first:
            first()
        result = method(*args, **kwargs)
        if then:
            then()
        return result

    @functools.wraps(method)
    async def waiting(*args: Any, **kwargs: Any) -> Any:
        if first:
            first()
        result = await method(*args, **kwargs)
        if then:
            then()
        return result

    setattr(owner, name, waiting if inspect.iscoroutinefunction(method) else plain)


def before(owner: type, name: str) -> Patch:
    return lambda: wrapped(owner, name, first=die, then=None)


def after(owner: type, name: str) -> Patch:
    return lambda: wrapped(owner, name, first=None, then=die)


def half_written() -> None:
    def write(self: StagedFile, data: Piece) -> None:
        os.write(self._descriptor, data[: len(data) // 2])
        die()

    StagedFile.write = write  # type: ignore[method-assign]


def without_kafka(step: Patch) -> Patch:
    def fail() -> None:
        raise KafkaUnavailableError

    def patch() -> None:
        wrapped(Publisher, "publish", first=fail, then=None)
        step()

    return patch


STEPS: dict[str, Patch] = {
    "the first bytes have come": after(_BodyReader, "read"),
    "half of it is written": half_written,
    "it is written": after(StagedFile, "write"),
    "it is on the disk": after(StagedFile, "force"),
    "it has its name": after(StagedFile, "become_blob"),
    "it is stored": after(BlobStore, "put_stream"),
    "its event is handed to Kafka's client": after(Publisher, "_enqueue"),
    "its event is in Kafka": after(Publisher, "publish"),
    "its event is about to go to the outbox": without_kafka(before(Outbox, "_keep")),
    "its event is in the outbox": without_kafka(after(Outbox, "_keep")),
    "its key is remembered": after(IdempotencyKeys, "settle"),
    "its key is about to be settled": before(IdempotencyKeys, "published"),
}


WITH_BLOB_WRITER: dict[str, Patch] = {
    "it is on its way to the blob writer": after(BlobWriterClient, "take"),
    **{
        step: patch
        for step, patch in STEPS.items()
        if step.startswith(("the first bytes", "it is stored", "its"))
    },
}


@asynccontextmanager
async def without_blob_writer(_: Directory, __: object = None) -> AsyncIterator[None]:
    """Run without a separate blob writer, so that the service itself takes every step."""
    yield


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.environ.update(asked["environment"])
            if asked["blob_writer"]:
                WITH_BLOB_WRITER[asked["step"]]()
            else:
                Directory.blob_writer = without_blob_writer  # type: ignore[assignment, method-assign]
                STEPS[asked["step"]]()
            settings = UploadSettings()
            serve(create_app(settings), settings, http=LargeBodies)
            os._exit(1)
        os.waitpid(pid, 0)
        sys.stdout.write("dead\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
