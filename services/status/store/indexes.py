"""The MongoDB indexes of the files. Every list in the API walks one of them in order."""

from datetime import UTC, datetime

from pymongo import ASCENDING, DESCENDING, IndexModel

from services.status.store.name_keys import KEYS
from services.status.store.name_search import BY_NAME

BY_CHANGE = [("status", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)]
"""The index of lists sorted by change."""

BY_STATE = [("status", ASCENDING), ("_id", DESCENDING)]
"""The index of lists by status, sorted by upload."""

OF_ALL = {field: f"{field}_1__id_-1" for field in ("owner", "batch_id", "label_index")}
"""Names of full indexes from earlier versions, by field."""


def _partial_index(field: str) -> IndexModel:
    """Return a partial index on a field: files without the field add no entry."""
    # An earlier full index may already have the default name.
    name = {"name": f"by_{field}"} if field in OF_ALL else {}
    return IndexModel(
        [(field, ASCENDING), ("_id", DESCENDING)],
        partialFilterExpression={field: {"$gt": ""}},
        **name,
    )


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Earlier than every deletion."""

AT_ANY_TIME = {"$gt": EPOCH, "$lt": datetime(9999, 1, 1, tzinfo=UTC)}
"""Matches the deletion time of deleted files only."""

INDEXES = [
    IndexModel(BY_STATE),
    IndexModel(BY_CHANGE),
    *map(_partial_index, ("owner", "tenant", "batch_id", "label_index", "shares.reader")),
    IndexModel("to_erase", sparse=True),
    IndexModel(KEYS, name=BY_NAME),
    IndexModel(
        [("status", ASCENDING), ("deleted_at", ASCENDING)],
        name="deleted",
        partialFilterExpression={"deleted_at": {"$gt": EPOCH}},
    ),
    IndexModel("cancel_run", name="to_cancel", partialFilterExpression={"cancel_run": {"$gt": 0}}),
]
"""Indexes for lists, for the few files to be erased or cancelled, and for counting deleted files.

Each index of a list ends with its sort order, so MongoDB neither sorts nor scans the whole
collection. Few of these fields change during processing, because every change costs the projector
an index update. Including the status in each index lowered the write rate by a third."""
