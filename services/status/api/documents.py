"""A file's status as a conditional answer: entity tag, when to ask again, and which members."""

from typing import Annotated

from fastapi import Header, Query, Response

from services.status.expectation import poll_after
from services.status.hub import Update
from services.status.projection import Status
from shared.errors import BadParameterError
from shared.events import utc_now

MEMBERS = frozenset(name for name, field in Status.model_fields.items() if not field.exclude)
"""What a status document consists of."""

Fields = Annotated[
    str | None,
    Query(
        description="Only these members, comma-separated; `file_id` is always there.",
        examples=["status,phase,progress"],
    ),
]

IfNoneMatch = Annotated[
    str | None,
    Header(description="The `ETag` of what the client has: 304 as long as that is the present."),
]

NOT_MODIFIED: dict[int | str, dict[str, object]] = {
    304: {"description": "The client has the present document."}
}
"""For FastAPI's `responses=`."""


def parse_fields(fields: str | None) -> set[str] | None:
    """The members that are asked for; None for all.

    Raises:
        BadParameterError: one of them is no member of a status document.
    """
    if fields is None:
        return None
    wanted = {name.strip() for name in fields.split(",")}
    if unknown := wanted - MEMBERS:
        raise BadParameterError(
            f"fields: a status has no {', '.join(sorted(unknown))!r}; "
            f"it has {', '.join(sorted(MEMBERS))}."
        )
    return wanted | {"file_id"}


def is_known(update: Update, if_none_match: str | None) -> bool:
    """Whether the client has this very document: `If-None-Match` by weak comparison (RFC 9110)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return bool(tags & {"*", update.etag})


def status_answer(
    update: Update, *, if_none_match: str | None = None, wanted: set[str] | None = None
) -> Response:
    """The status document, or 304 for a client that has it."""
    headers = {"ETag": update.etag, "Cache-Control": "no-cache"}
    if not update.status.status.is_terminal:
        headers["Retry-After"] = str(poll_after(update.status, utc_now()))
    if is_known(update, if_none_match):
        return Response(status_code=304, headers=headers)
    body = update.full if wanted is None else update.status.model_dump_json(include=wanted)
    return Response(body, media_type="application/json", headers=headers)
