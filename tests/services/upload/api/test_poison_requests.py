"""Input that cannot be stored or sent is cleaned or rejected, without an internal error."""

import json
from base64 import b64encode
from typing import Any

import httpx

from services.upload.settings import UploadSettings
from tests.services.upload.service import UPLOAD, UploadedEvents, running

BAD: list[Any] = [
    "a\x00b",
    "\ud800",
    "a\r\nb",
    "x" * 20_000,
    2**63,
    10**400,
    -1,
    None,
    [],
    {},
    True,
]
"""Values for JSON members and form fields."""

RAW = [b"a\x00b", b"\xed\xa0\x80", b"\xff", b"a" * 20_000, b"%00", b"%ED%A0%80", b"\x85"]
"""Values for headers, parts and metadata."""


def bodies(**fields: Any) -> list[bytes]:
    return [json.dumps(fields | {name: value}).encode() for name in fields for value in BAD]


async def test_no_upload_is_answered_by_an_error_of_ours_and_every_202_is_read_by_all(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    bad: dict[str, str] = {}
    accepted = 0
    async with running(settings.model_copy(update={"fetch": True})) as service:
        client = service.client

        async def ask(what: str, method: str, path: str, **more: Any) -> None:
            nonlocal accepted
            try:
                answer = await client.request(method, path, **more)
            except httpx.RemoteProtocolError:
                return  # Malformed HTTP is answered and the connection closed.
            if answer.status_code >= 500 and answer.status_code != 501:
                bad[what] = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code == 202:
                accepted += len(answer.json().get("files", [0]))

        asked = {
            "name": "a.txt",
            "size": 3,
            "content_type": "text/plain",
            "sha256": "0" * 64,
            "labels": {"a": "b"},
        }
        js = {"content-type": "application/json"}
        for body in bodies(**asked):
            await ask(f"direct {body[:90]!r}", "POST", f"{UPLOAD}/direct", content=body, headers=js)
        for body in bodies(url="http://127.0.0.1:9/", name="a", labels={"a": "b"}):
            await ask(f"url {body[:90]!r}", "POST", f"{UPLOAD}/from-url", content=body, headers=js)
        for value in RAW:
            word = b64encode(value)
            header_value = value.replace(b"\x00", b"")
            disposition = b'attachment; filename="' + header_value + b'"'
            for name, header in (
                ("content-disposition", disposition),
                (
                    "content-disposition",
                    b"attachment; filename*=UTF-8''" + header_value,
                ),
                ("content-type", b"text/plain; charset=" + header_value),
                ("content-type", header_value),
                ("idempotency-key", header_value),
                ("x-file-name", header_value),
            ):
                await ask(
                    f"{name} {header!r:.90}",
                    "POST",
                    UPLOAD,
                    content=b"x",
                    headers=[(name.encode(), header)],
                )
            for query in ("name", "filename", "label.a", "label.%00", "batch_id"):
                text = "".join(f"%{byte:02X}" for byte in value[:2000])
                await ask(f"{query}={text[:60]}", "POST", f"{UPLOAD}?{query}={text}", content=b"x")
            part = (
                b'--b\r\nContent-Disposition: form-data; name="label.a"\r\n\r\n'
                + value
                + b'\r\n--b\r\nContent-Disposition: form-data; name="f"; filename="'
                + value
                + b'"\r\nContent-Type: '
                + value
                + b"\r\n\r\nx\r\n--b--\r\n"
            )
            await ask(
                f"part {value!r:.60}",
                "POST",
                UPLOAD,
                content=part,
                headers={"content-type": "multipart/form-data; boundary=b"},
            )
            for key in (b"filename", b"filetype", b"label.a"):
                await ask(
                    f"tus {key!r} {value!r:.60}",
                    "POST",
                    f"{UPLOAD}/resumable",
                    content=b"",
                    headers={
                        "tus-resumable": "1.0.0",
                        "upload-length": "3",
                        "upload-metadata": (key + b" " + word).decode(),
                    },
                )
        for length in ("9" * 30, "-1", "nan", "1e3"):
            await ask(
                f"tus length {length}",
                "POST",
                f"{UPLOAD}/resumable",
                content=b"",
                headers={"tus-resumable": "1.0.0", "upload-length": length},
            )
        assert not bad, "\n".join(f"{what}: {answer}" for what, answer in bad.items())
        assert accepted
        # Parsing fails if an event contains a value that cannot be stored.
        assert len(await events.all()) == accepted
        refused = await client.post(
            f"{UPLOAD}/from-url", content=json.dumps({"url": "\ud800"}), headers=js
        )
        assert refused.status_code == 422
        assert "body.url: the text has a lone surrogate (U+D800)" in refused.json()["detail"]
