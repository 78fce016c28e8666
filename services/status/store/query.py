"""List queries: which files, in which order, and where a page begins."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from services.status.projection.projection import FileState, Status
from services.status.store.access import EVERYTHING, Visibility
from shared.events.storable import unstorable_text

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Bounds of times that MongoDB, ids and every time zone can represent. All events lie within
them."""


def storable(moment: datetime) -> datetime:
    """Return the same moment, limited to the supported range."""
    return min(max(moment, FIRST), LAST)


class Sort(StrEnum):
    """The order of a list. Ids sort by the start of the upload."""

    NEWEST_FIRST = "-created"
    OLDEST_FIRST = "created"
    LATEST_CHANGE_FIRST = "-updated"
    EARLIEST_CHANGE_FIRST = "updated"

    @property
    def descends(self) -> bool:
        return self.startswith("-")

    @property
    def is_by_change(self) -> bool:
        return self in (Sort.LATEST_CHANGE_FIRST, Sort.EARLIEST_CHANGE_FIRST)


@dataclass(frozen=True, kw_only=True)
class Query:
    """The filters of a list. None or an empty set matches everything."""

    status: frozenset[FileState] = frozenset()
    """Any of these."""
    visible_to: Visibility = EVERYTHING
    owner: str | None = None
    batch_id: str | None = None
    labels: frozenset[str] = frozenset()
    """`key:value`; all must match."""
    name: str | None = None
    """A part of the name, case-insensitive."""
    created_since: datetime | None = None
    created_before: datetime | None = None
    """Start of the upload according to the id, in milliseconds."""
    updated_since: datetime | None = None
    updated_before: datetime | None = None


@dataclass(frozen=True)
class ListCursor:
    """The last file of a page. The next page begins after its place in the order.

    A cursor is a place, not a count, so files that are added, removed or changed elsewhere do not
    shift the pages.
    """

    sort: Sort
    file_id: str
    updated_at: datetime | None
    """None if the order does not need it."""

    @classmethod
    def behind(cls, document: Mapping[str, Any], sort: Sort) -> Self:
        """Return the cursor after a document, even if the document itself is unreadable."""
        moment = document["updated_at"] if sort.is_by_change else None
        return cls(sort, document["_id"], moment)

    def to_text(self) -> str:
        """Return the cursor as opaque text for clients."""
        place = [self.sort, self.file_id, self.updated_at and self.updated_at.isoformat()]
        return urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse a cursor that `to_text` returned.

        Raises:
            ValueError: the text is not such a cursor.
        """
        try:
            decoded = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            sort, file_id, updated_at = decoded
            order = Sort(sort)
            moment = storable(datetime.fromisoformat(updated_at)) if order.is_by_change else None
        except (TypeError, RecursionError) as error:
            raise ValueError("invalid cursor") from error
        if not isinstance(file_id, str) or unstorable_text(file_id):
            raise ValueError("invalid cursor")
        return cls(order, file_id, moment)


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    items: list[Status]
    next: ListCursor | None
    """Start of the next page; None for the last page."""
