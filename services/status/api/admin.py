"""What an operator looks at and mends: what is stuck, drifted or dead, below `/api/admin`."""

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
"""Dead letters of one answer, and that are looked through for those of one tenant."""

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
    """Files that do not go on, longest silent first."""

    items: list[StuckFile]


class Audit(BaseModel):
    """What this pod's audits have found since it started."""

    compared: int = Field(description="Files compared with a fresh fold of the log.")
    mended: int = Field(description="Those that differed and were replaced by such a fold.")
    drifted: list[DriftedFile] = Field(description="The latest that differed, oldest first.")


@router.get("/stuck", dependencies=[Depends(up_to_date)])
async def list_stuck(auditor: AuditorOf, readable: Readable) -> StuckFiles:
    """Files of which nothing is heard for longer than their limits allow, with the reason."""
    return StuckFiles(items=await auditor.stuck(readable))


@router.get("/audit", dependencies=[Depends(admin), Depends(reader)])
async def read_audit(auditor: AuditorOf) -> Audit:
    """Whether samples of MongoDB's documents are what the log says.

    Each pod compares a hundred files a minute and mends what has drifted; `waybill replay` compares
    all of them.
    """
    found = auditor.findings
    return Audit(compared=found.compared, mended=found.mended, drifted=list(found.drifted))


@router.get("/dead")
async def list_dead(
    letters: DeadLettersOf,
    store: StoreOf,
    readable: Readable,
    limit: Annotated[int, Query(ge=1, le=MAX_LETTERS)] = 50,
    code: DeadCode | None = None,
) -> DeadPage:
    """Records that could not be read or were given up, newest first.

    An operator is told of those of their tenant's files, as far as they are among the newest.
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
    """One dead letter, with the record's value in base64."""
    letter = await letters.get(partition, offset)
    if letter is None or not (
        readable.everything or await store.get(letter.file_id, readable) is not None
    ):
        raise UnknownDeadLetterError(
            f"There is no dead letter {partition}-{offset}; "
            f"they are kept for {DEAD.retention and DEAD.retention.days} days."
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
    """Give what is dead another chance, once its cause is mended.

    A file that was given up starts its next run. A file of whose log something could not be stored
    is folded anew. A record that could not be read is put back unchanged into the topic that it
    came from.
    """
    letter = await read_dead(letters, store, commandable, partition, offset)
    reason = f"redriven from dead letter {letter.id}"
    await commands.note(Command.REDRIVE, letter.file_id, asker, reason=reason)
    if letter.data.code == DeadCode.GIVEN_UP:
        status = (await find(hub, letter.file_id, commandable)).status
        if status.run != letter.data.run:
            raise NotRedrivableError(
                f"Run {letter.data.run} was given up, and the file is in run {status.run} already."
            )
        await runs.start(status, force=False, reason=reason)
        response.headers["Location"] = status_location(letter.file_id)
    elif letter.data.code == DeadCode.UNSTORABLE:
        await _fold_anew(auditor, letter)
        response.headers["Location"] = status_location(letter.file_id)
    else:
        value = _payload(letter, topic_names(settings, TOPICS))
        await publisher.put_back(letter.data.topic, letter.file_id, value)
    log.info("dead letter %s of %s was redriven", letter.id, letter.file_id)
    return letter.without_payload()


async def _fold_anew(auditor: Auditor, letter: DeadLetter) -> None:
    """Fold a letter's file anew: its record is in the log, and is not put there once more.

    Raises:
        NotRedrivableError: the record still cannot be stored, or the log has no such file.
    """
    refold, is_mended = await auditor.fold_anew(letter.file_id)
    origin = (letter.data.topic, letter.data.partition, letter.data.offset)
    for record, reason, _ in refold.put_aside if refold else ():
        if (record.topic, record.partition, record.offset) == origin:
            raise NotRedrivableError(f"The record still cannot be stored: {reason[:500]}")
    if not is_mended:
        raise NotRedrivableError(
            "The file cannot be folded anew from the log here; `waybill replay` reads all of it."
        )


def _payload(letter: DeadLetter, known: list[str]) -> bytes:
    """The record's value, whole and to be put back into a topic of ours.

    Raises:
        NotRedrivableError: it is not.
    """
    if letter.data.topic not in known:
        raise NotRedrivableError(f"It came from {letter.data.topic!r}, which is no topic of ours.")
    value = b64decode(letter.data.payload)
    if letter.data.size not in (None, len(value)):
        raise NotRedrivableError(
            f"Only {len(value)} of the record's {letter.data.size} bytes were kept."
        )
    return value
