"""Requests with values that cannot be stored or searched are rejected with a clear error."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import httpx

from services.status.store.query import Sort
from shared.events.events import new_file_id
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, wait_for
from tests.support.builders import completed, uploaded

LONG = "9" * 30
FAR = "0001-01-01T00:00:00+14:00"

GETS = [
    f"/api/files?{name}={value}"
    for name in (
        "q",
        "name",
        "search",
        "owner",
        "tenant",
        "batch_id",
        "label",
        "label.a",
        "status",
        "cursor",
        "after",
        "fields",
        "sort",
        "limit",
        "created_after",
        "created_before",
        "updated_after",
        "updated_before",
        "since",
        "until",
        "wait",
        "offset",
        "ids",
        "timeout",
    )
    for value in (
        "a%00b",
        "%ED%A0%80",
        "%FF",
        LONG,
        "-" + LONG,
        "nan",
        "inf",
        "%24ref",
        FAR.replace("+", "%2B"),
        "9999-12-31T23:59:59-14:00",
        "(",
        "a" * 5000,
    )
]
PATHS = (
    [
        f"/api/files/{file_id}{rest}"
        for file_id in ("a%00b", "%ED%A0%80", "%FF", "..", "a" * 3000)
        for rest in (
            "",
            "/process/status",
            "/events",
            "/source",
            "/artifacts/a%00b",
            "/shares",
            "/artifacts/%FF",
        )
    ]
    + [f"/api/batches/{each}" for each in ("a%00b", "%FF")]
    + [f"/api/admin/dead/{each}" for each in (f"0-{LONG}", f"{LONG}-0", "0--1")]
    + [f"/api/admin/dead?limit={LONG}", "/api/webhooks/a%00b", "/api/webhooks/a%00b/deliveries"]
)


ODD_IDS: tuple[Any, ...] = ("\ud800", "a\x00", 2**70, [], {"$gt": ""})
GETS += [
    f"/api/files?sort={sort}&cursor="
    + urlsafe_b64encode(json.dumps([sort, file_id, moment]).encode()).decode()
    for sort in (*Sort, "other", 2**63)
    for file_id in ODD_IDS
    for moment in (None, FAR, "9999-12-31T23:59:59-14:00", 2**63)
]


async def test_no_question_is_answered_by_an_error_of_ours(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), completed())
    await wait_for(client, file_id, "completed")
    bad = {}
    for path in (
        GETS
        + PATHS
        + [
            f"/api/files/{file_id}/artifacts/a%00b",
            f"/api/files/{file_id}/process/status?wait=nan",
            f"/api/files/{file_id}/process/status?wait=inf",
            f"/api/files/{file_id}/events?after={LONG}",
        ]
    ):
        answer = await client.get(path)
        if answer.status_code >= 500:
            bad[path] = answer.text[:200]
    assert not bad, "\n".join(f"{k}: {v}" for k, v in bad.items())


BAD = ["a\x00b", "\ud800", "a\r\nb", "x" * 100_000, 2**63, -1, 1e400, None, [], {}, True]


def bodies(**fields: Any) -> list[bytes]:
    return [json.dumps(fields | {name: value}).encode() for name in fields for value in BAD]


async def test_no_command_is_answered_by_an_error_of_ours(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), completed())
    await wait_for(client, file_id, "completed")
    bulk: dict[str, Any] = {
        "action": "cancel",
        "files": {"ids": [file_id]},
        "limit": 1,
        "force": False,
        "reason": "why",
    }
    by_filter: dict[str, Any] = {
        "owner": "ada",
        "label": "a:b",
        "batch_id": "b",
        "status": ["pending"],
    }
    hook: dict[str, Any] = {"url": "https://a.example/", "states": ["failed"], "label": "a:b"}
    requests = [("/api/files/bulk", body) for body in bodies(**bulk)]
    requests += [
        ("/api/files/bulk", json.dumps(bulk | {"files": {"ids": [value]}}).encode())
        for value in BAD
    ]
    requests += [
        ("/api/files/bulk", json.dumps(bulk | {"files": {"filter": {name: value}}}).encode())
        for name in by_filter
        for value in BAD
    ]
    requests += [("/api/webhooks", body) for body in bodies(**hook)]
    requests += [
        ("/api/webhooks", json.dumps(hook | {"url": "https://a.example/" + value}).encode())
        for value in BAD
        if isinstance(value, str)
    ]
    requests += [("/api/files/bulk", b"[" * 50_000), ("/api/webhooks", b'{"a":' * 50_000)]
    requests += [
        ("/api/files/bulk", b'{"limit":' + b"9" * 5_000 + b"}"),
        ("/api/webhooks", b"\xff"),
    ]
    bad: dict[str, str] = {}
    headers = {"content-type": "application/json"}
    for path, body in requests:
        answer = await client.post(path, content=body, headers=headers)
        if answer.status_code >= 500:
            bad[f"{path} {body[:120]!r}"] = answer.text[:300]
    for text in ("a%00b", "%ED%A0%80", "%FF", "a%0d%0ab", "x" * 5_000):
        for method, path in (
            ("post", f"/api/files/{file_id}/cancel?reason={text}"),
            ("post", f"/api/files/{file_id}/retry?reason={text}&force={text}"),
            ("put", f"/api/files/{file_id}/shares/{text}"),
            ("put", f"/api/files/{file_id}/shares/bob?reason={text}"),
            ("delete", f"/api/files/{file_id}/shares/{text}"),
            ("post", f"/api/files/{text}/cancel"),
            ("post", f"/api/webhooks/{text}/rotate"),
            ("delete", f"/api/webhooks/{text}"),
        ):
            answer = await client.request(method, path)
            if answer.status_code >= 500:
                bad[f"{method} {path[:100]}"] = answer.text[:300]
    assert not bad, "\n".join(f"{k}: {v}" for k, v in bad.items())
    refused = await client.post(
        "/api/files/bulk", content=json.dumps(bulk | {"reason": "a\ud800"}), headers=headers
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert "body.reason: the text has a lone surrogate (U+D800)" in refused.json()["detail"]
    refused = await client.post(f"/api/files/{file_id}/retry?reason=a%00b")
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
