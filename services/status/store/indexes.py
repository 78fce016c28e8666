"""The indexes of the files in MongoDB: every list of the API walks one of them in order."""

from datetime import UTC, datetime

from pymongo import ASCENDING, DESCENDING, IndexModel

from services.status.store.name_keys import KEYS
from services.status.store.name_search import BY_NAME

BY_CHANGE = [("status", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)]
"""The index of lists in the order of changes."""

BY_STATE = [("status", ASCENDING), ("_id", DESCENDING)]
"""The index of lists by status, in the order of uploads."""


OF_ALL = {field: f"{field}_1__id_-1" for field in ("owner", "batch_id", "label_index")}
"""The indexes of earlier versions that had all files in them, by field."""


def _of_those_who_have(field: str) -> IndexModel:
    """The index of a list by a field that many files have not: those do not pay for it."""
    # What MongoDB would name it is the name of an index of all files, if there was one.
    name = {"name": f"by_{field}"} if field in OF_ALL else {}
    return IndexModel(
        [(field, ASCENDING), ("_id", DESCENDING)],
        partialFilterExpression={field: {"$gt": ""}},
        **name,
    )


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Before every deletion."""

AT_ANY_TIME = {"$gt": EPOCH, "$lt": datetime(9999, 1, 1, tzinfo=UTC)}
"""What the time of a deletion fulfils, and that of a file which is there does not."""

INDEXES = [
    IndexModel(BY_STATE),
    IndexModel(BY_CHANGE),
    *map(_of_those_who_have, ("owner", "tenant", "batch_id", "label_index", "shares.reader")),
    IndexModel("to_erase", sparse=True),
    IndexModel(KEYS, name=BY_NAME),
    IndexModel(
        [("status", ASCENDING), ("deleted_at", ASCENDING)],
        name="deleted",
        partialFilterExpression={"deleted_at": {"$gt": EPOCH}},
    ),
    IndexModel("cancel_run", name="to_cancel", partialFilterExpression={"cancel_run": {"$gt": 0}}),
]
"""Those of the lists, those that find the few files to be erased or to be cancelled, and the one
that counts deleted files.

Of a list each ends with what it is sorted by, so that MongoDB neither sorts nor reads a collection
from end to end. Few of these fields change while a file is worked on, since the projector pays for
an index at each change: with the status in the indexes of all fields it wrote a third less."""
