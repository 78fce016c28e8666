"""Lists of files: `GET /api/files`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from services.status.api import examples
from services.status.api.dependencies import HubOf, Readable, StoreOf, reader, up_to_date
from services.status.api.documents import MEMBERS, Fields, parse_fields
from services.status.api.filters import parse_label
from services.status.projection.projection import FileState, Status
from services.status.store.query import ListCursor, Sort, storable
from services.status.store.query import Query as FileQuery
from shared.errors import BadParameterError
from shared.events.ids import canonical_id
from shared.http.problems import ERROR_RESPONSES

router = APIRouter(
    prefix="/api/files",
    tags=["files"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(reader), Depends(up_to_date)],
)

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
"""Maximum files per page, about 1.5 kB each: a page stays below one megabyte."""

MAX_LABELS = 10
"""Maximum labels of one search. Each adds a condition to every file that is examined."""

MAX_TEXT = 200
"""Maximum characters of a search text."""

SUMMARY = MEMBERS - {"history"}
"""Default members of a file in a list."""


Moment = Annotated[
    Annotated[AwareDatetime, AfterValidator(storable)] | None,
    Query(examples=["2026-11-25T09:00:00Z"]),
]
Text = Annotated[str | None, Query(min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]


class FilePage(BaseModel):
    """One page of files, without their histories."""

    items: list[Status]
    next_cursor: str | None


@router.get("", response_model=FilePage, responses=examples.answer(examples.PAGE))
async def list_files(
    request: Request,
    store: StoreOf,
    hub: HubOf,
    readable: Readable,
    status: Annotated[list[FileState], Query(description="Any of these.")] = [],  # noqa: B006
    owner: Text = None,
    batch_id: Text = None,
    label: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": ":"})]],
        Query(description="`key:value`; all must match.", max_length=MAX_LABELS),
    ] = [],  # noqa: B006
    name: Text = None,
    created_since: Moment = None,
    created_before: Moment = None,
    updated_since: Moment = None,
    updated_before: Moment = None,
    sort: Sort = Sort.NEWEST_FIRST,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the previous page.")] = None,
    fields: Fields = None,
) -> Response:
    """List files that match, one page at a time.

    A page begins after the last file of the previous page. No file is repeated or skipped when
    others are added or removed meanwhile. When sorted by change, a file that changes moves: with
    `sort=updated` it moves towards the end, so it appears again and none is missed.

    `name` is a part of the name, case-insensitive and in any Unicode form. `created_…` refers to
    the start of the upload. The header `Link` also contains the address of the next page.
    """
    query = FileQuery(
        status=frozenset(status),
        visible_to=readable,
        owner=owner,
        batch_id=batch_id and canonical_id(batch_id),
        labels=frozenset(filter(None, map(parse_label, label))),
        name=name,
        created_since=created_since,
        created_before=created_before,
        updated_since=updated_since,
        updated_before=updated_before,
    )
    wanted = parse_fields(fields) or set(SUMMARY)
    page = await store.find(query, sort=sort, limit=limit, after=_parse_cursor(cursor, sort))
    items = [each for each in page.items if hub.shows(each, readable)]
    answer = FilePage(items=items, next_cursor=page.next and page.next.to_text())
    shown: dict[str, Any] = {"items": {"__all__": wanted}, "next_cursor": True}
    body = answer.model_dump_json(include=shown)
    headers = {"Cache-Control": "no-cache"}
    if answer.next_cursor is not None:
        following = request.url.include_query_params(cursor=answer.next_cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return Response(body, media_type="application/json", headers=headers)


def _parse_cursor(text: str | None, sort: Sort) -> ListCursor | None:
    if text is None:
        return None
    try:
        cursor = ListCursor.from_text(text)
    except ValueError as error:
        raise BadParameterError(
            "cursor: the value is not a valid cursor; start from the first page."
        ) from error
    if cursor.sort is not sort:
        raise BadParameterError(
            f"cursor: the value belongs to sort={cursor.sort.value}, not to sort={sort.value}."
        )
    return cursor
