"""One command for many files: `POST /api/files/bulk`."""

import asyncio
from enum import StrEnum
from typing import Annotated, Self

from fastapi import APIRouter, Depends
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from services.status.api.commands import MAX_REASON, ONE_LINE
from services.status.api.dependencies import (
    Commandable,
    CommandsOf,
    HubOf,
    StoreOf,
    commander,
    own_origin,
    up_to_date,
)
from services.status.api.files import MAX_ID, find_own
from services.status.api.listing import MAX_LABELS, MAX_TEXT
from services.status.commands.commands import Commands
from services.status.live.hub import Hub
from services.status.projection.projection import FileState
from services.status.store.access import Visibility
from services.status.store.query import Query
from services.status.store.store import FileStore
from shared.auth.auth import Asker
from shared.auth.principal import Principal
from shared.errors import RefusedError, UnavailableError
from shared.events.ids import canonical_id
from shared.http.head_first import HeadFirstRoute
from shared.http.problems import ERROR_RESPONSES

router = APIRouter(
    prefix="/api/files",
    tags=["commands"],
    responses=ERROR_RESPONSES,
    route_class=HeadFirstRoute,
    dependencies=[Depends(own_origin), Depends(commander), Depends(up_to_date)],
)

MAX_FILES = 1000
"""Files per request, which takes a few seconds. Clients repeat the request for more."""

MAX_CONCURRENT = 20
"""Concurrent commands of one request. Each waits for Kafka."""


class Action(StrEnum):
    """The commands of a bulk request."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]
Id = Annotated[
    str, Field(max_length=MAX_ID, pattern=r"^[^\x00]*$"), AfterValidator(canonical_id)
]  # Constraints after a validator would be missing in the schema.
Label = Annotated[str, Field(max_length=MAX_TEXT, pattern=r"^[^\x00]*:[^\x00]*$")]


class ByIds(BaseModel):
    """Files by id."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Id] = Field(min_length=1, max_length=MAX_FILES)


class ByFilter(BaseModel):
    """Files that match all given filters."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    status: Annotated[list[FileState], Field(min_length=1)] | SkipJsonSchema[None] = Field(
        default=None, description="Any of these. By default, those that the action applies to."
    )
    owner: Text | SkipJsonSchema[None] = None
    batch_id: Annotated[Text, AfterValidator(canonical_id)] | SkipJsonSchema[None] = None
    label: (
        Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS)] | SkipJsonSchema[None]
    ) = Field(default=None, description="`key:value`; all must match.")

    @model_validator(mode="after")
    def _has_filter(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("no filter is given; send at least one")
        return self


def _selection(files: object) -> str:
    """Return the tag of a selection, so that validation errors concern that form only."""
    named = "ids" in files if isinstance(files, dict) else isinstance(files, ByIds)
    return "ids" if named else "filter"


class BulkRequest(BaseModel):
    """A command and the files it applies to."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    files: Annotated[
        Annotated[ByIds, Tag("ids")] | Annotated[ByFilter, Tag("filter")], Discriminator(_selection)
    ]
    limit: int = Field(
        default=MAX_FILES, ge=1, le=MAX_FILES, description="Maximum files for a filter."
    )
    force: bool = Field(default=False, description="Also process completed files again.")
    reason: str = Field(default="asked for", min_length=1, max_length=MAX_REASON, pattern=ONE_LINE)

    @property
    def usual_states(self) -> set[FileState]:
        """The statuses that the action applies to."""
        ended = {state for state in FileState if state.is_terminal}
        match self.action:
            case Action.CANCEL:
                return set(FileState) - ended
            case Action.RETRY:
                return ended if self.force else ended - {FileState.COMPLETED}
            case Action.DELETE:
                return set(FileState)


class Outcome(BaseModel):
    """The result of the command for one file."""

    file_id: str
    accepted: bool
    code: str | None = Field(default=None, description="Error code, as in a problem document.")
    detail: str | None = None


class BulkAnswer(BaseModel):
    """The results, in the order of `ids`, or newest file first."""

    accepted: int
    refused: int
    more: bool = Field(description="True if more files match: repeat the request.")
    items: list[Outcome]


@router.post("/bulk")
async def bulk(
    body: BulkRequest,
    hub: HubOf,
    store: StoreOf,
    commandable: Commandable,
    commands: CommandsOf,
    asker: Asker,
) -> BulkAnswer:
    """Cancel, retry or delete many files, with a separate result for each.

    A rejected file does not affect the others. If Kafka is unavailable, the remaining files are not
    tried.
    """
    ids, more = await _selected_ids(store, body, commandable)
    command = _Command(body, hub, commands, commandable, asker)
    items = await asyncio.gather(*map(command.apply, ids))
    accepted = sum(each.accepted for each in items)
    return BulkAnswer(
        accepted=accepted, refused=len(items) - accepted, more=more, items=list(items)
    )


async def _selected_ids(
    store: FileStore, body: BulkRequest, commandable: Visibility
) -> tuple[list[str], bool]:
    """Return the ids of the files, and True if more match."""
    wanted = body.files
    if isinstance(wanted, ByIds):
        return list(dict.fromkeys(wanted.ids)), False
    query = Query(
        status=frozenset(wanted.status or body.usual_states),
        owner=wanted.owner,
        batch_id=wanted.batch_id,
        labels=frozenset(wanted.label or ()),
        visible_to=commandable.own,
    )
    page = await store.find(query, limit=body.limit, after=None)
    return [status.file_id for status in page.items], page.next is not None


class _Command:
    """Applies one command to file after file."""

    def __init__(
        self,
        body: BulkRequest,
        hub: Hub,
        commands: Commands,
        commandable: Visibility,
        asker: Principal,
    ) -> None:
        self._body = body
        self._hub = hub
        self._commands = commands
        self._commandable = commandable
        self._asker = asker
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)
        self._unavailable: UnavailableError | None = None

    async def apply(self, file_id: str) -> Outcome:
        """Apply the command to one file, within the concurrency limit."""
        async with self._turns:
            try:
                if self._unavailable is not None:
                    raise self._unavailable
                await self._act(file_id)
            except (RefusedError, UnavailableError) as error:
                if isinstance(error, UnavailableError):
                    self._unavailable = error
                return Outcome(
                    file_id=file_id, accepted=False, code=error.code, detail=error.public_detail
                )
            return Outcome(file_id=file_id, accepted=True)

    async def _act(self, file_id: str) -> None:
        status = await find_own(self._hub, file_id, self._commandable)
        reason = self._body.reason
        match self._body.action:
            case Action.CANCEL:
                await self._commands.cancel(status, self._asker, reason=reason)
            case Action.RETRY:
                force = self._body.force
                await self._commands.retry(status, self._asker, force=force, reason=reason)
            case Action.DELETE:
                await self._commands.delete(status, self._asker, reason=reason)
