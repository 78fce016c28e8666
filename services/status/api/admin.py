"""Endpoints for operators, under `/api/admin`: stuck files, drift and dead letters."""

import logging
from base64 import b64decode
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from services.status.api.dependencies import (
    AuditorOf,
    Commandable,
    CommandsOf,
    DeadLettersOf,
    HubOf,
    PublisherOf,
    Readable,
    RunsOf,
    SettingsOf,
    StoreOf,
    admin,
    operator,
    own_origin,
    reader,
    up_to_date,
)
from services.status.api.files import find, status_location
from services.status.commands.commands import Command
from services.status.commands.dead import DeadLetter
from services.status.monitoring.stuck import StuckFile
from services.status.replay.auditor import Auditor, DriftedFile
from shared.auth.auth import Asker
from shared.errors import NotRedrivableError, UnknownDeadLetterError
from shared.events.facts import DeadCode
from shared.events.topics import DEAD, TOPICS
from shared.http.problems import ERROR_RESPONSES
from shared.kafka.messaging import topic_names

log = logging.getLogger(__name__)

MAX_LETTERS = 500
"""Maximum dead letters in one response, and searched for those of one tenant."""

router = APIRouter(
    prefix="/api/admin",
    tags=["admin"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(operator)],
)


class DeadPage(BaseModel):
    """The newest dead letters, newest first, without their payloads."""

    items: list[DeadLetter]


class StuckFiles(BaseModel):
    """Stuck files, longest silent first."""

    items: list[StuckFile]


class Audit(BaseModel):
    """Results of this pod's audits since it started."""

    compared: int = Field(description="Number of files compared with a fresh fold of the log.")
    mended: int = Field(description="Number of drifted files replaced by a fresh fold.")
    drifted: list[DriftedFile] = Field(description="The latest drifted files, oldest first.")


@router.get("/stuck", dependencies=[Depends(up_to_date)])
async def list_stuck(auditor: AuditorOf, readable: Readable) -> StuckFiles:
    """List files without an event for longer than their limits allow, with the reason."""
    return StuckFiles(items=await auditor.stuck(readable))


@router.get("/audit", dependencies=[Depends(admin), Depends(reader)])
async def read_audit(auditor: AuditorOf) -> Audit:
    """Show whether sampled documents in MongoDB match the log.

    Each pod compares a hundred files per minute and repairs those that have drifted; `waybill
    replay` compares all files.
    """
    found = auditor.findings
    return Audit(compared=found.compared, mended=found.repaired, drifted=list(found.drifted))


@router.get("/dead")
async def list_dead(
    letters: DeadLettersOf,
    store: StoreOf,
    readable: Readable,
    limit: Annotated[int, Query(ge=1, le=MAX_LETTERS)] = 50,
    code: DeadCode | None = None,
) -> DeadPage:
    """List records that could not be read or stored, or whose file was given up, newest first.

    Operators see letters of their tenant's files, among the newest 500.
    """
    if readable.everything:
        return DeadPage(items=await letters.newest(limit=limit, code=code))
    newest = await letters.newest(limit=MAX_LETTERS, code=code)
    visible = await store.get_many({letter.file_id for letter in newest}, readable)
    return DeadPage(items=[letter for letter in newest if letter.file_id in visible][:limit])


@router.get("/dead/{partition:int}-{offset:int}")
async def read_dead(
    letters: DeadLettersOf, store: StoreOf, readable: Readable, partition: int, offset: int
) -> DeadLetter:
    """Return one dead letter, with the record's value in base64."""
    letter = await letters.get(partition, offset)
    if letter is None or not (
        readable.everything or await store.get(letter.file_id, readable) is not None
    ):
        raise UnknownDeadLetterError(
            f"Dead letter {partition}-{offset} does not exist; "
            f"dead letters are kept for {DEAD.retention and DEAD.retention.days} days."
        )
    return letter


@router.post(
    "/dead/{partition:int}-{offset:int}/redrive",
    status_code=202,
    dependencies=[Depends(own_origin), Depends(up_to_date)],
)
async def redrive(
    response: Response,
    letters: DeadLettersOf,
    store: StoreOf,
    settings: SettingsOf,
    hub: HubOf,
    runs: RunsOf,
    publisher: PublisherOf,
    commandable: Commandable,
    commands: CommandsOf,
    auditor: AuditorOf,
    asker: Asker,
    partition: int,
    offset: int,
) -> DeadLetter:
    """Process a dead letter again, after its cause has been fixed.

    If the file was given up, its next run starts. If an event could not be stored, the file is
    refolded from the log. A record that could not be read is republished unchanged to its original
    topic.
    """
    letter = await read_dead(letters, store, commandable, partition, offset)
    reason = f"redriven from dead letter {letter.id}"
    await commands.record(Command.REDRIVE, letter.file_id, asker, reason=reason)
    if letter.data.code == DeadCode.GIVEN_UP:
        status = (await find(hub, letter.file_id, commandable)).status
        if status.run != letter.data.run:
            raise NotRedrivableError(
                f"The letter is for run {letter.data.run}; the file is in run {status.run} already."
            )
        await runs.start(status, force=False, reason=reason)
        response.headers["Location"] = status_location(letter.file_id)
    elif letter.data.code == DeadCode.UNSTORABLE:
        await _refold(auditor, letter)
        response.headers["Location"] = status_location(letter.file_id)
    else:
        value = _payload(letter, topic_names(settings, TOPICS))
        await publisher.put_back(letter.data.topic, letter.file_id, value)
    log.info("dead letter %s of %s was redriven", letter.id, letter.file_id)
    return letter.without_payload()


async def _refold(auditor: Auditor, letter: DeadLetter) -> None:
    """Refold a letter's file. Its record is still in the log, so it is not republished.

    Raises:
        NotRedrivableError: the record still cannot be stored, or the log does not contain the file.
    """
    refold, is_repaired = await auditor.refold(letter.file_id)
    origin = (letter.data.topic, letter.data.partition, letter.data.offset)
    for record, reason, _ in refold.rejected if refold else ():
        if (record.topic, record.partition, record.offset) == origin:
            raise NotRedrivableError(f"The record still cannot be stored: {reason[:500]}")
    if not is_repaired:
        raise NotRedrivableError(
            "The file cannot be refolded here; run `waybill replay`, which reads the whole log."
        )


def _payload(letter: DeadLetter, known: list[str]) -> bytes:
    """Return the record's value, if it is complete and from one of Waybill's topics.

    Raises:
        NotRedrivableError: the value is incomplete or from another topic.
    """
    if letter.data.topic not in known:
        raise NotRedrivableError(
            f"The record is from {letter.data.topic!r}, which is not a Waybill topic."
        )
    value = b64decode(letter.data.payload)
    if letter.data.size not in (None, len(value)):
        raise NotRedrivableError(
            f"Only {len(value)} of the record's {letter.data.size} bytes were kept."
        )
    return value
