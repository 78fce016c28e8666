"""The present states of what somebody follows: what the overlay holds, and else MongoDB."""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from services.status.live.filter import Filter
from services.status.live.overlay import Overlay
from services.status.live.update import Update
from services.status.projection.projection import Status
from services.status.store.query import Query
from services.status.store.store import FileStore
from shared.errors import MongoUnavailableError

log = logging.getLogger(__name__)

MAX_SNAPSHOT = 1000
"""States of one snapshot; of more files than that a list is better read page by page."""


class Snapshot(NamedTuple):
    """The present states of what is followed."""

    updates: list[Update]
    is_complete: bool


async def take_snapshot(wanted: Filter, overlay: Overlay, store: FileStore) -> Snapshot:
    """Return the present states of the files that match.

    While MongoDB is away, a snapshot of more than named files has what the overlay holds, and says
    that it is not complete.

    Raises:
        UnavailableError: MongoDB does not answer, and some of the named files are neither held nor
            so young that the tail brings them from their beginning.
    """
    is_complete = True
    if wanted.ids is not None:
        unheld = overlay.unheld(wanted.ids)
        stored = await _documents(unheld, wanted, overlay, store) if unheld else {}
        found = {file_id: Update(status) for file_id, status in stored.items()}
        concerned: Iterable[str] = wanted.ids
    elif wanted.is_open:
        return Snapshot([], is_complete=False)
    else:
        found, is_complete = await _listed(wanted, store)
        concerned = overlay.ids
    for file_id in concerned:
        if (held := overlay.get(file_id)) is not None:
            found[file_id] = held
    return Snapshot(
        [update for update in found.values() if wanted.matches(update.status)], is_complete
    )


async def _documents(
    file_ids: set[str], wanted: Filter, overlay: Overlay, store: FileStore
) -> dict[str, Status]:
    """What MongoDB has of named files; without it, nothing of those whose story is yet to come."""
    try:
        return await store.get_many(file_ids, wanted.visible_to)
    except MongoUnavailableError:
        if all(overlay.is_new(file_id) for file_id in overlay.unheld(file_ids)):
            return {}
        raise


async def _listed(wanted: Filter, store: FileStore) -> tuple[dict[str, Update], bool]:
    """The files that MongoDB lists, and whether these are all."""
    query = Query(
        status=frozenset({wanted.status} if wanted.status else ()),
        visible_to=wanted.visible_to,
        owner=wanted.owner,
        batch_id=wanted.batch_id,
        labels=frozenset({wanted.label} if wanted.label else ()),
    )
    try:
        page = await store.find(query, limit=MAX_SNAPSHOT, after=None)
    except MongoUnavailableError as error:
        log.warning("a stream begins without what MongoDB has: %s", error)
        return {}, False
    return {status.file_id: Update(status) for status in page.items}, page.next is None
