"""The access matrix: every endpoint, called by every kind of caller.

The endpoints are read from the applications. An endpoint without a row here fails the test.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from enum import Enum, auto

import httpx
import pytest
import websockets
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from starlette.routing import BaseRoute

from services.status.app import create_app as create_status
from services.status.settings import StatusSettings
from services.upload.app import create_app as create_upload
from services.upload.settings import UploadSettings
from shared.auth.principal import Scope
from shared.events.events import new_file_id
from tests.access.installation import (
    JWT,
    RUNNING,
    SHARED,
    STORED,
    UNKNOWN,
    Installation,
    members,
    ours,
    running,
    settings_of,
    without_id,
)
from tests.access.people import (
    COMMANDS,
    EVERYBODY,
    NOBODY,
    SEES,
    STAFF,
    WHO,
    bearer,
    token,
)
from waybill.local.parts import Parts


class Kind(Enum):
    """The kinds of endpoints by the data that they give access to."""

    PUBLIC = auto()
    """No data about files."""
    FILE = auto()
    """Reads one file."""
    COMMAND = auto()
    """Changes one file."""
    DELETION = auto()
    """Deletes one file."""
    SHARES = auto()
    """Lists the readers of one file, for its owner."""
    SHARE = auto()
    """Changes the readers of one file, for its owner."""
    FILES = auto()
    """Reads all visible files."""
    OPERATORS = auto()
    """Reads visible files, for operators and admins only."""
    ADMINS = auto()
    """Reads or changes the installation, for admins only."""
    BATCH = auto()
    """Reads the visible files of one batch."""
    BULK = auto()
    """Changes several files."""
    WEBHOOKS = auto()
    """Lists the visible webhooks, or creates one."""
    WEBHOOK = auto()
    """Reads or changes one webhook."""
    UPLOAD = auto()
    """Accepts a file."""
    SELF = auto()
    """Returns the caller, whatever its scopes."""
    TICKETS = auto()
    """Issues stream tickets; see test_tickets.py."""
    RESUMABLE = auto()
    """Reads or changes one upload in progress."""


Operation = tuple[str, str]

ROWS: dict[Operation, Kind] = {
    ("GET", "/health/live"): Kind.PUBLIC,
    ("GET", "/health/ready"): Kind.PUBLIC,
    ("GET", "/asyncapi.json"): Kind.PUBLIC,
    ("GET", "/api/config"): Kind.PUBLIC,
    ("POST", "/api/tickets"): Kind.TICKETS,
    ("GET", "/api/session"): Kind.SELF,
    ("POST", "/api/session"): Kind.SELF,
    ("DELETE", "/api/session"): Kind.PUBLIC,
    ("GET", "/api/files"): Kind.FILES,
    ("GET", "/api/stats"): Kind.FILES,
    ("GET", "/api/stream"): Kind.FILES,
    ("WEBSOCKET", "/api/ws"): Kind.FILES,
    ("GET", "/api/files/{file_id}"): Kind.FILE,
    ("GET", "/api/files/{file_id}/process/status"): Kind.FILE,
    ("GET", "/api/files/{file_id}/result"): Kind.FILE,
    ("GET", "/api/files/{file_id}/artifacts/{name}"): Kind.FILE,
    ("GET", "/api/files/{file_id}/source"): Kind.FILE,
    ("GET", "/api/files/{file_id}/events"): Kind.FILE,
    ("POST", "/api/files/{file_id}/cancel"): Kind.COMMAND,
    ("POST", "/api/files/{file_id}/retry"): Kind.COMMAND,
    ("DELETE", "/api/files/{file_id}"): Kind.DELETION,
    ("GET", "/api/files/{file_id}/shares"): Kind.SHARES,
    ("PUT", "/api/files/{file_id}/shares/{subject}"): Kind.SHARE,
    ("DELETE", "/api/files/{file_id}/shares/{subject}"): Kind.SHARE,
    ("POST", "/api/files/bulk"): Kind.BULK,
    ("GET", "/api/batches/{batch_id}"): Kind.BATCH,
    ("GET", "/api/webhooks"): Kind.WEBHOOKS,
    ("POST", "/api/webhooks"): Kind.WEBHOOKS,
    ("GET", "/api/webhooks/{webhook_id}/deliveries"): Kind.WEBHOOK,
    ("POST", "/api/webhooks/{webhook_id}/rotate"): Kind.WEBHOOK,
    ("DELETE", "/api/webhooks/{webhook_id}"): Kind.WEBHOOK,
    ("GET", "/api/admin/stuck"): Kind.OPERATORS,
    ("GET", "/api/admin/dead"): Kind.OPERATORS,
    ("GET", "/api/admin/dead/{partition}-{offset}"): Kind.OPERATORS,
    ("POST", "/api/admin/dead/{partition}-{offset}/redrive"): Kind.OPERATORS,
    ("GET", "/api/admin/audit"): Kind.ADMINS,
    ("POST", "/api/files/upload"): Kind.UPLOAD,
    ("POST", "/api/files/upload/from-url"): Kind.UPLOAD,
    ("POST", "/api/files/upload/direct"): Kind.UPLOAD,
    ("POST", "/api/files/upload/direct/{upload_id}/complete"): Kind.RESUMABLE,
    ("DELETE", "/api/files/upload/direct/{upload_id}"): Kind.RESUMABLE,
    ("OPTIONS", "/api/uploads"): Kind.PUBLIC,
    ("POST", "/api/uploads"): Kind.UPLOAD,
    ("HEAD", "/api/uploads/{upload_id}"): Kind.RESUMABLE,
    ("PATCH", "/api/uploads/{upload_id}"): Kind.RESUMABLE,
    ("DELETE", "/api/uploads/{upload_id}"): Kind.RESUMABLE,
    ("POST", "/api/uploads/{upload_id}"): Kind.RESUMABLE,
}

UNDOCUMENTED = {
    "/",
    "/static",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
}
"""Public paths that no OpenAPI document lists."""

NEEDS = {
    Kind.UPLOAD: Scope.UPLOAD,
    Kind.RESUMABLE: Scope.UPLOAD,
    Kind.COMMAND: Scope.COMMAND,
    Kind.DELETION: Scope.COMMAND,
    Kind.SHARE: Scope.COMMAND,
    Kind.BULK: Scope.COMMAND,
}
"""The required scope by kind of endpoint; all others require the scope for reading."""

COMMANDS_TOO = {Kind.OPERATORS, Kind.WEBHOOKS, Kind.WEBHOOK}
"""Kinds whose methods other than GET require the scope for commands."""


def routes(routes_of: Sequence[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield all routes, including those of included routers."""
    for route in routes_of:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from routes(included.routes)


def operations(app: FastAPI) -> set[Operation]:
    """Return the method and path of all endpoints of an application."""
    documented = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    sockets = {
        ("WEBSOCKET", route.path)
        for route in routes(app.routes)
        if isinstance(route, APIWebSocketRoute)
    }
    return documented | sockets


STATUS, UPLOAD = create_status(StatusSettings(**JWT)), create_upload(UploadSettings(**JWT))


WORDLESS = ("WEBSOCKET", "HEAD")
"""Methods with tests of their own."""


def of(*kinds: Kind) -> list[Operation]:
    """Return the operations of these kinds that respond with a document."""
    return [each for each, kind in ROWS.items() if kind in kinds and each[0] not in WORDLESS]


@pytest.fixture(scope="module")
async def installation(
    parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    settings = settings_of(parts, tmp_path_factory.mktemp("blobs"), "access")
    async with running(settings) as started:
        yield started


DELETE = ("DELETE", "/api/files/{file_id}")
WEBHOOK = "/api/webhooks/{webhook_id}"


async def ask(
    installation: Installation,
    operation: Operation,
    credential: str | None,
    *,
    file_id: str = UNKNOWN,
    letter: str = "0-0",
) -> httpx.Response:
    """Call an operation and return the response."""
    method, path = operation
    client = installation.upload if operation in operations(UPLOAD) else installation.status
    partition, _, offset = letter.partition("-")
    address = path.format(
        upload_id=file_id,
        file_id=file_id,
        batch_id=file_id,
        webhook_id=file_id,
        subject="eve",
        name="text.txt",
        partition=partition,
        offset=offset,
    )
    body = (
        {"action": "cancel", "files": {"ids": [file_id]}} if ROWS[operation] is Kind.BULK else None
    )
    headers = bearer(credential) | {"Tus-Resumable": "1.0.0"}
    return await client.request(method, address, headers=headers, json=body)


def test_every_endpoint_has_a_row() -> None:
    assert operations(STATUS) | operations(UPLOAD) == set(ROWS)


@pytest.mark.parametrize("app", [STATUS, UPLOAD], ids=["status", "upload"])
def test_what_no_document_has_is_known_as_well(app: FastAPI) -> None:
    known = {path for _, path in ROWS} | UNDOCUMENTED
    for route in routes(app.routes):
        assert re.sub(r":\w+}", "}", getattr(route, "path", "")) in known


async def test_nobody_without_a_good_token_is_told_anything(installation: Installation) -> None:
    for operation in of(*set(Kind) - {Kind.PUBLIC}):
        for who, credential in NOBODY.items():
            answer = await ask(installation, operation, credential, file_id=STORED)
            assert_is_refused(answer, who)


def assert_is_refused(answer: httpx.Response, who: str) -> None:
    code = {"anonymous": "unauthenticated"}.get(who, "invalid_token")
    code = "token_expired" if who.startswith("expired") else code
    assert (answer.status_code, answer.json()["code"]) == (401, code), (who, answer.request.url)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_how_far_an_upload_is_is_told_to_nobody_without_a_good_token(
    installation: Installation,
) -> None:
    for operation in [each for each in ROWS if each[0] == "HEAD"]:
        for credential in NOBODY.values():
            answer = await ask(installation, operation, credential)
            assert (answer.status_code, answer.content) == (401, b"")
        reading = token("root", "acme", "admin", scope=Scope.READ)
        assert (await ask(installation, operation, reading)).status_code == 403


async def test_nobody_without_a_good_token_opens_a_socket(installation: Installation) -> None:
    address = str(installation.status.base_url).replace("http", "ws") + "/api/ws"
    for credential in NOBODY.values():
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(address, additional_headers=bearer(credential)):
                pass
        assert refused.value.response.status_code == 401


async def test_what_is_public_is_told_to_everybody(installation: Installation) -> None:
    for operation in of(Kind.PUBLIC):
        for credential in (*NOBODY.values(), *EVERYBODY.values()):
            assert (await ask(installation, operation, credential)).is_success


async def test_a_token_is_good_for_its_scopes_only(installation: Installation) -> None:
    for operation in of(*set(Kind) - {Kind.PUBLIC, Kind.SELF}):
        needed = NEEDS.get(ROWS[operation], Scope.READ)
        if operation[0] != "GET" and ROWS[operation] in COMMANDS_TOO:
            needed = Scope.COMMAND
        others = " ".join(set(Scope) - {needed})
        answer = await ask(installation, operation, token("root", "acme", "admin", scope=others))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), operation


@pytest.mark.parametrize("file_id", [STORED, RUNNING])
async def test_a_file_of_somebody_else_is_answered_like_one_that_does_not_exist(
    installation: Installation, file_id: str
) -> None:
    for operation in of(Kind.FILE, Kind.COMMAND, Kind.DELETION, Kind.SHARES, Kind.SHARE):
        for who, credential in EVERYBODY.items():
            if who in COMMANDS and ROWS[operation] is Kind.DELETION:
                continue
            answer = await ask(installation, operation, credential, file_id=file_id)
            unknown = await ask(installation, operation, credential, file_id=UNKNOWN)
            assert unknown.json()["code"] == "unknown_file"
            if who in COMMANDS or (who in SEES and ROWS[operation] is Kind.FILE):
                assert answer.is_success or answer.status_code == 409, (operation, answer.text)
            elif who in SEES:
                assert answer.json()["code"] == "forbidden", operation
            else:
                assert without_id(answer, file_id) == without_id(unknown, UNKNOWN), (who, operation)


async def test_a_file_is_deleted_by_those_alone_who_may_know_of_it(
    installation: Installation,
) -> None:
    for who, credential in EVERYBODY.items():
        theirs = new_file_id()
        await installation.publish(theirs, ours(), *SHARED)
        await until_listed(installation, theirs, is_listed=True)
        await until_shared(installation, theirs)
        path = f"/api/files/{theirs}"
        assert (await installation.status.get(path, headers=bearer(EVERYBODY["owner"]))).is_success
        answer = await ask(installation, DELETE, credential, file_id=theirs)
        left = await installation.status.get(path, headers=bearer(EVERYBODY["admin"]))
        refused = 403 if who in SEES else 404
        assert (answer.status_code, left.status_code) == (
            (202, 410) if who in COMMANDS else (refused, 200)
        ), who
        await ask(installation, DELETE, EVERYBODY["admin"], file_id=theirs)
        await until_listed(installation, theirs, is_listed=False)


async def until_listed(installation: Installation, file_id: str, *, is_listed: bool) -> None:
    """Wait until the lists, which read from MongoDB, contain a file or no longer contain it."""
    admin = bearer(EVERYBODY["admin"])
    async with asyncio.timeout(20):
        while True:
            answer = await installation.status.get("/api/files", headers=admin)
            if (file_id in members(answer)) == is_listed:
                return
            await asyncio.sleep(0.05)


async def until_shared(installation: Installation, file_id: str) -> None:
    """Wait until the shares are known: they come by a topic of their own."""
    path = f"/api/files/{file_id}"
    reader, former = (bearer(EVERYBODY[who]) for who in ("reader", "former reader"))
    async with asyncio.timeout(20):
        while True:
            answers = [await installation.status.get(path, headers=who) for who in (reader, former)]
            if [each.status_code for each in answers] == [200, 404]:
                return
            await asyncio.sleep(0.05)


async def test_a_list_holds_what_may_be_seen(installation: Installation) -> None:
    for who, credential in EVERYBODY.items():
        for filters in ({}, {"owner": "ada"}, {"batch_id": "b1"}, {"sort": "-updated"}):
            answer = await installation.status.get(
                "/api/files", params=filters, headers=bearer(credential)
            )
            assert members(answer) == ({STORED, RUNNING} if who in SEES else set()), (who, filters)


async def test_a_batch_is_told_of_the_files_that_may_be_seen(installation: Installation) -> None:
    batch = ("GET", "/api/batches/{batch_id}")
    for who, credential in EVERYBODY.items():
        answer = await ask(installation, batch, credential, file_id="b1")
        unknown = await ask(installation, batch, credential, file_id="b2")
        if who in SEES:
            assert answer.json()["total"] == 2, who
        else:
            assert without_id(answer, "b1") == without_id(unknown, "b2"), who


async def test_one_command_for_many_files_leaves_those_alone_that_may_not_be_seen(
    installation: Installation,
) -> None:
    order = ("POST", "/api/files/bulk")
    for who, credential in EVERYBODY.items():
        answer = await ask(installation, order, credential, file_id=STORED)
        unknown = await ask(installation, order, credential, file_id=UNKNOWN)
        if who in SEES:
            refusal = "not_cancellable" if who in COMMANDS else "forbidden"
            assert answer.json()["items"][0]["code"] == refusal, who
        else:
            assert without_id(answer, STORED) == without_id(unknown, UNKNOWN), who
        by_batch = {"action": "retry", "files": {"batch_id": "b1"}}
        found = await installation.status.post(order[1], json=by_batch, headers=bearer(credential))
        assert found.json()["items"] == [], (
            who
        )  # None of the caller's files failed; others do not count.


async def test_a_webhook_is_there_for_those_alone_who_see_the_same_files(
    installation: Installation,
) -> None:
    for who, credential in EVERYBODY.items():
        made = await installation.status.post(
            "/api/webhooks",
            json={"url": "https://hooks.example/"},
            headers=bearer(EVERYBODY["owner"]),
        )
        webhook_id = made.json()["id"]
        listed = await installation.status.get("/api/webhooks", headers=bearer(credential))
        ids = {each["id"] for each in listed.json()["items"]}
        assert (webhook_id in ids) == (who in COMMANDS), who
        for operation in of(Kind.WEBHOOK):
            answer = await ask(installation, operation, credential, file_id=webhook_id)
            unknown = await ask(installation, operation, credential, file_id="0" * 16)
            if who in COMMANDS:
                assert answer.is_success, (who, operation, answer.text)
            else:
                assert without_id(answer, webhook_id) == without_id(unknown, "0" * 16), who
        owner = EVERYBODY["owner"]
        await ask(installation, ("DELETE", WEBHOOK), owner, file_id=webhook_id)


async def test_files_are_counted_that_may_be_seen(installation: Installation) -> None:
    for who, credential in EVERYBODY.items():
        if who == "admin":
            continue  # Counted once per second for all files.
        answer = await installation.status.get("/api/stats", headers=bearer(credential))
        stats = answer.json()
        assert sum(stats["files"].values()) == (2 if who in SEES else 0), who
        assert stats["oldest"].keys() == ({"processing"} if who in SEES else set()), who
        assert stats["queue"]["length"] == 0, who
        assert (stats["rates"], stats["lag"]) == (None, None), (
            who
        )  # They include other owners' files.


async def test_what_is_for_operators_is_told_to_no_user(installation: Installation) -> None:
    for operation in of(Kind.OPERATORS, Kind.ADMINS):
        allowed = {"admin"} if ROWS[operation] is Kind.ADMINS else STAFF
        for who, credential in EVERYBODY.items():
            answer = await ask(installation, operation, credential, letter="99-0")
            assert (answer.status_code == 403) == (who not in allowed), (who, operation)


async def test_an_operator_sees_what_is_dead_or_stuck_of_their_tenant(
    installation: Installation,
) -> None:
    letters: dict[str, str] = {}
    for who in STAFF:
        headers = bearer(EVERYBODY[who])
        stuck = await installation.status.get("/api/admin/stuck", headers=headers)
        dead = await installation.status.get("/api/admin/dead", headers=headers)
        assert members(stuck) == ({RUNNING} if who in SEES else set())
        assert members(dead) == ({RUNNING} if who in SEES else set())
        letters |= {item["file_id"]: item["id"] for item in dead.json()["items"]}
    for operation in of(Kind.OPERATORS):
        if "{partition}" in operation[1]:
            stranger = EVERYBODY["operator of another tenant"]
            answer = await ask(installation, operation, stranger, letter=letters[RUNNING])
            unknown = await ask(installation, operation, stranger, letter="0-999")
            assert (
                without_id(answer, letters[RUNNING])[2].replace(letters[RUNNING], "<id>")
                == without_id(unknown, "0-999")[2]
            )
            assert answer.status_code == unknown.status_code == 404
    letter = ("GET", "/api/admin/dead/{partition}-{offset}")
    for who in STAFF & SEES:
        assert (await ask(installation, letter, EVERYBODY[who], letter=letters[RUNNING])).is_success


async def test_what_somebody_uploads_is_theirs(installation: Installation) -> None:
    for who, credential in EVERYBODY.items():
        answer = await installation.upload.post(
            "/api/files/upload", content=b"some text", headers=bearer(credential)
        )
        assert answer.status_code == 202, who
        path = f"/api/files/{answer.json()['file_id']}"
        status = (await installation.status.get(path, headers=bearer(credential))).json()
        assert (status["owner"], status["tenant"]) == WHO[who]


async def test_everybody_is_told_who_they_are(installation: Installation) -> None:
    for operation in of(Kind.SELF):
        for who, credential in EVERYBODY.items():
            caller = (await ask(installation, operation, credential)).json()
            assert (caller["subject"], caller["tenant"]) == WHO[who]


async def test_one_persons_key_does_not_meet_anothers(installation: Installation) -> None:
    one_of_each = [EVERYBODY[who] for who in ("other", "owner", "same name in another tenant")]
    ids = set()
    for credential in one_of_each:
        answer = await installation.upload.post(
            "/api/files/upload",
            content=b"some text",
            headers={**bearer(credential), "Idempotency-Key": '"the same"'},
        )
        ids.add(answer.json()["file_id"])
    assert len(ids) == len(one_of_each)
