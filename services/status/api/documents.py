"""A file's status as a conditional response: entity tag, retry time and selected members."""

from collections.abc import Set
from typing import Annotated, Any

from fastapi import Header, Query, Response
from pydantic import BaseModel, Field

from services.status.api import examples
from services.status.api.ranges import names
from services.status.live.update import Update
from services.status.monitoring.expectation import poll_after
from services.status.monitoring.queue_stats import QueuePlace
from services.status.projection.projection import Status
from shared.errors import BadParameterError
from shared.events.events import utc_now


class StatusDocument(Status):
    """The status of a single file, as the API returns it."""

    queue: QueuePlace | None = Field(
        default=None, description="Place in the queue, if the file is waiting for its turn."
    )


def _members(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if not field.exclude)


MEMBERS, DOCUMENT_MEMBERS = _members(Status), _members(StatusDocument)
"""Members of a status, and those of the document for a single file."""


def _some_of(members: frozenset[str]) -> Any:
    member = f"({'|'.join(sorted(members))})"
    return Query(
        description="Only these members, comma-separated. `file_id` is always included.",
        examples=["status,phase,progress"],
        json_schema_extra={"pattern": f"^{member}(,{member})*$"},
    )


Fields = Annotated[str | None, _some_of(MEMBERS)]
DocumentFields = Annotated[str | None, _some_of(DOCUMENT_MEMBERS)]

IfNoneMatch = Annotated[
    str | None,
    Header(description="The `ETag` of the client's copy: 304 while it is current."),
]

_TEXT = {"schema": {"type": "string"}}

CONDITIONAL: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {"description": "Entity tag for `If-None-Match`.", **_TEXT},
            "Retry-After": {
                "description": "Seconds until the next useful poll; absent for a finished file.",
                "schema": {"type": "integer"},
            },
        },
        "content": {"application/json": {"example": examples.STATUS}},
    },
    304: {"description": "The client's copy is current."},
}
"""Responses for FastAPI's `responses=`."""


def parse_fields(fields: str | None, members: Set[str] = MEMBERS) -> set[str] | None:
    """Return the requested members; None for all.

    Raises:
        BadParameterError: one of them is not in `members`.
    """
    if fields is None:
        return None
    wanted = {name.strip() for name in fields.split(",")}
    if unknown := wanted - members:
        raise BadParameterError(
            f"fields: a status has no {', '.join(sorted(unknown))!r}; "
            f"it has {', '.join(sorted(members))}."
        )
    return wanted | {"file_id"}


def is_known(update: Update, if_none_match: str | None) -> bool:
    """Return True if `If-None-Match` names this document, by weak comparison (RFC 9110)."""
    return if_none_match is not None and names(if_none_match, update.etag, weakly=True)


def status_answer(
    update: Update,
    place: QueuePlace | None,
    if_none_match: str | None = None,
    wanted: set[str] | None = None,
) -> Response:
    """Return the status document, or 304 if the client's copy is current."""
    # The queue place changes without an event of the file, so a tag that excludes it is weak.
    headers = {"ETag": f"W/{update.etag}" if place else update.etag, "Cache-Control": "no-cache"}
    if not update.status.status.is_terminal:
        headers["Retry-After"] = str(poll_after(update.status, utc_now(), place))
    if is_known(update, if_none_match):
        return Response(status_code=304, headers=headers)
    if wanted is None:
        # The document is serialized once for all followers; the queue place is appended for each
        # client.
        queue = place.model_dump_json().encode() if place else b"null"
        body = b'%b,"queue":%b}' % (update.full[:-1], queue)
    else:
        whole = StatusDocument.model_construct(**vars(update.status), queue=place)
        body = whole.model_dump_json(include=wanted).encode()
    return Response(body, media_type="application/json", headers=headers)
