"""Translates list queries to MongoDB filters, without using the driver."""

from datetime import datetime
from typing import Any

from services.status.projection.projection import FileState
from services.status.store.name_keys import named
from services.status.store.query import FIRST, ListCursor, Query, Sort
from shared.events.events import first_file_id


def conditions(query: Query, sort: Sort, after: ListCursor | None) -> list[dict[str, Any]]:
    """Return the conditions that every file of the list must match."""
    wanted: dict[str, Any] = {
        "owner": query.owner,
        "batch_id": query.batch_id,
        "label_index": {"$all": sorted(query.labels)} if query.labels else None,
    }
    asked = [{field: value} for field, value in wanted.items() if value is not None]
    asked += [] if query.name is None else [named(query.name)]
    # When sorted by change, the index is walked once for each status and the results are merged.
    states = query.status or (set(FileState) if sort.is_by_change else set())
    asked += [{"status": {"$in": sorted(states)}}] if states else []
    asked += _range("_id", _first_id(query.created_since), _first_id(query.created_before))
    since = query.updated_since or (FIRST if sort.is_by_change else None)
    asked += _range("updated_at", since, query.updated_before)
    asked += [] if after is None else _behind(after)
    visible = query.visible_to.conditions(by_reader=not sort.is_by_change)
    return [*asked, visible, {"deleted_at": None}]


def _first_id(moment: datetime | None) -> str | None:
    return None if moment is None else first_file_id(moment)


def _range(field: str, least: Any, below: Any) -> list[dict[str, Any]]:
    bounds = {"$gte": least, "$lt": below}
    return [{field: {sign: bound}} for sign, bound in bounds.items() if bound is not None]


def _behind(cursor: ListCursor) -> list[dict[str, Any]]:
    beyond, not_beyond = ("$lt", "$gte") if cursor.sort.descends else ("$gt", "$lte")
    if not cursor.sort.is_by_change:
        return [{"_id": {beyond: cursor.file_id}}]
    # The first condition bounds the index scan. The second excludes files with the same time up to
    # the cursor. For an `$or`, MongoDB sometimes makes two scans and sorts their results.
    return [
        {"updated_at": {f"{beyond}e": cursor.updated_at}},
        {
            "$nor": [
                {
                    "updated_at": {not_beyond: cursor.updated_at},
                    "_id": {not_beyond: cursor.file_id},
                }
            ]
        },
    ]
