"""Which files a list holds, in which order, and where a page of it begins."""

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
"""Times that MongoDB, ids and every time zone can tell; nothing happened outside of them."""


def storable(moment: datetime) -> datetime:
    """The same moment, or the nearest one that can be asked for."""
    return min(max(moment, FIRST), LAST)


class Sort(StrEnum):
    """The order of a list, the ids being sorted by when an upload began."""

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
    """Which files a list is to hold; what is None or empty is left open."""

    status: frozenset[FileState] = frozenset()
    """Any of them."""
    visible_to: Visibility = EVERYTHING
    owner: str | None = None
    batch_id: str | None = None
    labels: frozenset[str] = frozenset()
    """`key:value`, all of them."""
    name: str | None = None
    """A part of the name, in any case of letters."""
    created_since: datetime | None = None
    created_before: datetime | None = None
    """When the upload began, as the id tells it, to the millisecond."""
    updated_since: datetime | None = None
    updated_before: datetime | None = None


@dataclass(frozen=True)
class ListCursor:
    """The last file of a page: the next page begins behind its place in the order.

    It names a place and no count, so what comes, goes or changes elsewhere moves nothing.
    """

    sort: Sort
    file_id: str
    updated_at: datetime | None
    """None where the order does not need it."""

    @classmethod
    def behind(cls, document: Mapping[str, Any], sort: Sort) -> Self:
        """The place behind a file, by its document: that may be one that cannot be read."""
        moment = document["updated_at"] if sort.is_by_change else None
        return cls(sort, document["_id"], moment)

    def to_text(self) -> str:
        """The cursor as clients hand it on, which is no promise of what is in it."""
        place = [self.sort, self.file_id, self.updated_at and self.updated_at.isoformat()]
        return urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The cursor that `to_text` wrote.

        Raises:
            ValueError: it did not.
        """
        try:
            decoded = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            sort, file_id, updated_at = decoded
            order = Sort(sort)
            moment = storable(datetime.fromisoformat(updated_at)) if order.is_by_change else None
        except (TypeError, RecursionError) as error:
            raise ValueError("no cursor") from error
        if not isinstance(file_id, str) or unstorable_text(file_id):
            raise ValueError("no cursor")
        return cls(order, file_id, moment)


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    items: list[Status]
    next: ListCursor | None
    """Where the next page begins; None if this is the last one."""
