"""A file's status as a conditional answer: entity tag, when to ask again, and which members."""

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
    """The status of a file, as it is answered to who asks for that file."""

    queue: QueuePlace | None = Field(
        default=None, description="Where a file that waits for its turn stands in the queue."
    )


def _members(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if not field.exclude)


MEMBERS, DOCUMENT_MEMBERS = _members(Status), _members(StatusDocument)
"""What is known of a file, and what is told to who asks for it."""


def _some_of(members: frozenset[str]) -> Any:
    member = f"({'|'.join(sorted(members))})"
    return Query(
        description="Only these members, comma-separated; `file_id` is always there.",
        examples=["status,phase,progress"],
        json_schema_extra={"pattern": f"^{member}(,{member})*$"},
    )


Fields = Annotated[str | None, _some_of(MEMBERS)]
DocumentFields = Annotated[str | None, _some_of(DOCUMENT_MEMBERS)]

IfNoneMatch = Annotated[
    str | None,
    Header(description="The `ETag` of what the client has: 304 as long as that is the present."),
]

_TEXT = {"schema": {"type": "string"}}

CONDITIONAL: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {"description": "For `If-None-Match`.", **_TEXT},
            "Retry-After": {
                "description": "Seconds until it is worth asking again; none once it has ended.",
                "schema": {"type": "integer"},
            },
        },
        "content": {"application/json": {"example": examples.STATUS}},
    },
    304: {"description": "The client has the present document."},
}
"""For FastAPI's `responses=`."""


def parse_fields(fields: str | None, members: Set[str] = MEMBERS) -> set[str] | None:
    """The members that are asked for; None for all.

    Raises:
        BadParameterError: one of them is not among `members`.
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
    """Whether the client has this very document: `If-None-Match` by weak comparison (RFC 9110)."""
    return if_none_match is not None and names(if_none_match, update.etag, weakly=True)


def status_answer(
    update: Update,
    place: QueuePlace | None,
    if_none_match: str | None = None,
    wanted: set[str] | None = None,
) -> Response:
    """The status document, or 304 for a client that has it."""
    # The place in the queue moves while nothing happens to the file: the tag does not tell of it.
    headers = {"ETag": f"W/{update.etag}" if place else update.etag, "Cache-Control": "no-cache"}
    if not update.status.status.is_terminal:
        headers["Retry-After"] = str(poll_after(update.status, utc_now(), place))
    if is_known(update, if_none_match):
        return Response(status_code=304, headers=headers)
    if wanted is None:
        # The document is serialised once for all who follow the file; what is theirs is put behind.
        queue = place.model_dump_json().encode() if place else b"null"
        body = b'%b,"queue":%b}' % (update.full[:-1], queue)
    else:
        whole = StatusDocument.model_construct(**vars(update.status), queue=place)
        body = whole.model_dump_json(include=wanted).encode()
    return Response(body, media_type="application/json", headers=headers)
