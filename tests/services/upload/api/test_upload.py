"""An uploaded file is stored, recorded and acknowledged, in this order."""

import hashlib
import os
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from services.upload.api.openapi import AcceptedBatch, AcceptedFile
from services.upload.settings import UploadSettings
from shared.blobs.blobs import BLOCK, open_blob_store
from tests.services.upload.service import UPLOAD, Service, UploadedEvents, running
from tests.support.stored import stored_files

TEXT = b"To be, or not to be.\n"


async def test_a_file_in_a_form_is_acknowledged_with_its_waybill(service: Service) -> None:
    answer = await service.send(("play.txt", TEXT))

    assert answer.status_code == 202
    body = answer.json()
    assert UUID(body["file_id"]).version == 7
    assert body == {
        "file_id": body["file_id"],
        "status": "pending",
        "name": "play.txt",
        "size": len(TEXT),
        "content_type": "text/plain",
        "sha256": hashlib.sha256(TEXT).hexdigest(),
        "status_url": f"/api/files/{body['file_id']}/process/status",
    }
    assert answer.headers["location"] == body["status_url"]
    assert answer.headers["retry-after"] == "1"
    AcceptedFile.model_validate(body)


async def test_its_content_is_stored_and_its_event_published(
    service: Service, events: UploadedEvents
) -> None:
    body = (await service.send(("play.txt", TEXT))).json()

    assert service.blob(body["file_id"]) == TEXT
    event = await events.one()
    assert event.file_id == body["file_id"]
    assert event.source == "/upload"
    assert event.data.model_dump() == {
        "run": 1,
        "blob": (await stored_files(open_blob_store(service.settings)))[body["file_id"]],
        "content_type": "text/plain",
        "size": len(TEXT),
        "charset": "utf-8",
        "sha256": hashlib.sha256(TEXT).hexdigest(),
        "name": "play.txt",
        "tenant": None,
        "owner": None,
        "labels": {},
        "batch_id": None,
    }


@pytest.mark.parametrize(
    "request_",
    [
        {"params": {"name": "día 1.txt"}},
        {"headers": {"content-disposition": f"attachment; filename*=UTF-8''{quote('día 1.txt')}"}},
        {"headers": {"content-disposition": 'attachment; filename="día 1.txt"'.encode()}},
    ],
    ids=["query", "filename*", "filename"],
)
async def test_a_raw_body_is_a_file_whose_name_stands_beside_it(
    service: Service, events: UploadedEvents, request_: dict[str, Any]
) -> None:
    answer = await service.post(content=TEXT, **request_)

    assert answer.status_code == 202
    assert (await events.one()).data.name == "día 1.txt"


async def test_a_raw_body_need_not_have_a_name(service: Service) -> None:
    assert (await service.post(content=TEXT)).json()["name"] == "unnamed"


async def test_a_raw_body_may_come_without_a_length(service: Service) -> None:
    async def pieces() -> Any:
        yield TEXT
        yield TEXT

    body = (await service.post(content=pieces())).json()

    assert body["size"] == 2 * len(TEXT)
    assert service.blob(body["file_id"]) == TEXT + TEXT


async def test_what_curl_sends_with_data_binary_is_a_raw_body(service: Service) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}

    answer = await service.post(content=b"a,b\n1,2\n", headers=headers, params={"name": "t.csv"})

    assert answer.json()["content_type"] == "text/csv"


async def test_several_files_are_a_batch(service: Service, events: UploadedEvents) -> None:
    answer = await service.send(("a.txt", b"one"), ("b.txt", b"two"), ("a.txt", b"three"))

    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/api/files?batch_id={body['batch_id']}"
    AcceptedBatch.model_validate(body)
    assert body["status"] == "pending"
    assert [file["status"] for file in body["files"]] == ["pending"] * 3
    assert [file["name"] for file in body["files"]] == ["a.txt", "b.txt", "a.txt"]
    assert [service.blob(file["file_id"]) for file in body["files"]] == [b"one", b"two", b"three"]
    published = await events.all()
    assert {event.data.batch_id for event in published} == {body["batch_id"]}
    assert {event.file_id for event in published} == {file["file_id"] for file in body["files"]}


@pytest.mark.parametrize(
    ("written", "boundary"),
    [
        ("----WebKitFormBoundaryx9BoUnDaRy", "----WebKitFormBoundaryx9BoUnDaRy"),
        ("----geckoformboundary1f", "----geckoformboundary1f"),
        ('"a; boundary=b"', "a; boundary=b"),
    ],
)
async def test_a_boundary_may_have_the_word_in_it_as_browsers_do(
    service: Service, written: str, boundary: str
) -> None:
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        f"to be\r\n--{boundary}--\r\n"
    )
    answer = await service.client.post(
        UPLOAD,
        content=body.encode(),
        headers={"content-type": f"multipart/form-data; boundary={written}"},
    )
    assert (answer.status_code, answer.json()["size"]) == (202, 5)


async def test_labels_in_a_form_count_for_every_file_wherever_they_stand(
    service: Service, events: UploadedEvents
) -> None:
    files = [
        ("label.project", (None, b"apollo")),
        ("file", ("a.txt", b"one")),
        ("label.year", (None, b"1969")),
        ("file", ("b.txt", b"two")),
    ]

    assert (await service.post(files=files)).status_code == 202

    for event in await events.all():
        assert event.data.labels == {"project": "apollo", "year": "1969"}


async def test_labels_of_a_raw_body_stand_in_the_query(
    service: Service, events: UploadedEvents
) -> None:
    await service.post(content=TEXT, params={"label.project": "apollo", "other": "x"})

    assert (await events.one()).data.labels == {"project": "apollo"}


async def test_fields_that_are_no_labels_are_ignored(service: Service) -> None:
    answer = await service.send(("play.txt", TEXT), csrf_token="x" * 200)

    assert answer.status_code == 202


async def test_a_form_with_one_of_two_files_chosen_is_one_file(service: Service) -> None:
    answer = await service.send(("play.txt", TEXT), ("", b"", "application/octet-stream"))

    assert answer.json()["name"] == "play.txt"


async def test_a_name_that_is_a_path_stays_a_name(service: Service, events: UploadedEvents) -> None:
    answer = await service.send(("../../etc/passwd", TEXT))

    assert answer.json()["name"] == "../../etc/passwd"
    assert (await events.one()).data.name == "../../etc/passwd"
    assert list(service.files()) == [answer.json()["file_id"]]


@pytest.mark.parametrize("size", [8191, 8192, 8193, BLOCK, 3 * BLOCK + 1])
async def test_content_is_kept_to_the_byte(service: Service, size: int) -> None:
    content = os.urandom(size)

    body = (await service.send(("data.bin", content))).json()

    assert (body["size"], body["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert service.blob(body["file_id"]) == content


async def test_a_file_of_exactly_the_greatest_size_is_accepted(settings: UploadSettings) -> None:
    async with running(settings, max_file_size=1000) as service:
        assert (await service.send(("full.txt", b"x" * 1000))).status_code == 202
        assert (await service.post(content=b"x" * 1000)).status_code == 202


async def test_the_status_address_can_be_that_of_another_service(
    settings: UploadSettings,
) -> None:
    async with running(settings, status_url="https://waybill.example/") as service:
        answer = await service.send(("play.txt", TEXT))

    where = f"https://waybill.example/api/files/{answer.json()['file_id']}/process/status"
    assert answer.headers["location"] == where
    assert answer.json()["status_url"] == where


async def test_a_demo_file_is_taken_where_they_are_switched_on(settings: UploadSettings) -> None:
    demo = "application/vnd.waybill.demo+json"
    async with running(settings, demo=True) as service:
        form = await service.send(("demo.json", b'{"steps": 1}', demo))
        raw = await service.post(content=b'{"steps": 1}', headers={"content-type": demo})

    assert form.json()["content_type"] == raw.json()["content_type"] == demo


async def test_fsync_changes_nothing_that_a_client_sees(settings: UploadSettings) -> None:
    async with running(settings, blobs_fsync=True) as service:
        body = (await service.send(("play.txt", TEXT))).json()

        assert service.blob(body["file_id"]) == TEXT
