"""A request is accepted in full or not at all, except in the case that cannot be undone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from services.upload.body.body import IncomingBody
from services.upload.coarse_timeouts import CoarseTimeouts
from services.upload.intake import outbox
from services.upload.intake.duplicates import Duplicates
from services.upload.intake.idempotency import IdempotencyKeys
from services.upload.intake.intake import Intake
from services.upload.intake.outbox import Outbox
from services.upload.kafka_connection import KafkaConnection
from services.upload.settings import UploadSettings
from shared.auth.principal import EVERYBODY
from shared.blobs.blobs import open_blob_store
from shared.errors import KafkaUnavailableError, LengthMismatchError
from shared.events.events import Event, FileUploaded, new_file_id
from shared.events.reading import parse
from shared.events.topics import Topic
from shared.kafka.publishing import Publisher
from tests.support.builders import about, uploaded

FORM = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nx\r\n' % name
    for name in (b"first", b"second", b"third")
)


@pytest.fixture
def settings(tmp_path: Path) -> UploadSettings:
    return UploadSettings(blobs=str(tmp_path), blobs_fsync=False, topic_prefix="")


class AllButTheSecond(Publisher):
    """Publishes nothing, and fails for the second event."""

    async def publish(self, event: Event, topic: Topic | None = None) -> None:
        assert isinstance(event, FileUploaded)
        assert topic is None
        if event.data.name == "second":
            raise KafkaUnavailableError("Kafka did not take it")


@pytest.fixture
def intake(settings: UploadSettings) -> Intake:
    """An intake whose Kafka accepts every event except the second."""
    blobs = open_blob_store(settings)
    publisher = AllButTheSecond(settings, client_id="never started")
    link = KafkaConnection(publisher, "")
    link.unavailable_reason = None
    return Intake(
        settings=settings,
        blobs=blobs,
        outbox=Outbox(settings=settings, blobs=blobs, publisher=publisher, link=link),
        keys=IdempotencyKeys(blobs),
        duplicates=Duplicates(settings=settings, blobs=blobs, link=link),
    )


def request_of(body: bytes, *, content_type: str, length: int | None = None) -> Request:
    """Build a request as from a server that does not check the length."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    headers = {"content-type": content_type, "content-length": str(length or len(body))}

    async def receive() -> dict[str, object]:
        return messages.pop()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return Request(scope, receive)


async def test_what_kafka_does_not_take_waits_in_the_outbox(
    settings: UploadSettings, intake: Intake
) -> None:
    request = request_of(FORM + b"--b--\r\n", content_type="multipart/form-data; boundary=b")

    accepted = await intake.take(IncomingBody(request, settings, CoarseTimeouts()), EVERYBODY)

    blobs = open_blob_store(settings)
    second = accepted.files[1]
    (key,) = await blobs.keys("outbox")
    event = parse(await blobs.get(key))
    assert event is not None
    assert (key, event.file_id) == (f"outbox/{second.file_id}.json", second.file_id)
    assert len(await blobs.keys("sources")) == 3


async def test_an_event_of_which_nobody_says_what_became_goes_to_the_outbox(
    settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Publisher):
        async def publish(self, *_: Any, **__: Any) -> None:
            await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(outbox, "PUBLISH_GRACE", 0.1)
    settings = settings.model_copy(update={"publish_timeout": 0.1})
    silent, blobs = Silent(settings, client_id="never started"), open_blob_store(settings)
    link = KafkaConnection(silent, "")
    link.unavailable_reason = None
    waiting = Outbox(settings=settings, blobs=blobs, publisher=silent, link=link)
    event = about(new_file_id(), uploaded())
    assert isinstance(event, FileUploaded)

    async with asyncio.timeout(20):
        await waiting.publish(event)

    assert await blobs.keys("outbox") == [f"outbox/{event.file_id}.json"]


async def test_when_only_some_files_are_taken_the_answer_says_which(
    settings: UploadSettings, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 0)
    request = request_of(FORM + b"--b--\r\n", content_type="multipart/form-data; boundary=b")

    with pytest.raises(KafkaUnavailableError, match="2 of 3 files were accepted") as refusal:
        await intake.take(IncomingBody(request, settings, CoarseTimeouts()), EVERYBODY)

    accepted = refusal.value.members["accepted"]
    assert isinstance(accepted, list)
    assert [file["name"] for file in accepted] == ["first", "third"]
    # Kafka may still have the event of the other file; the sweep decides.
    assert len(await open_blob_store(settings).keys("sources")) == 3


async def test_a_body_of_another_length_than_announced_is_refused(
    settings: UploadSettings, intake: Intake
) -> None:
    request = request_of(b"x" * 10, content_type="text/plain", length=11)

    with pytest.raises(LengthMismatchError, match="says 11 bytes, 10 came"):
        await intake.take(IncomingBody(request, settings, CoarseTimeouts()), EVERYBODY)

    assert await open_blob_store(settings).keys("sources") == []
