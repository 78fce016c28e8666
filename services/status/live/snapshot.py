"""Snapshots: the current states of followed files, from the overlay first and then MongoDB."""

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
"""Maximum number of states in one snapshot. Use the paged list for more files."""


class Snapshot(NamedTuple):
    """The current states of the followed files."""

    updates: list[Update]
    is_complete: bool


async def take_snapshot(wanted: Filter, overlay: Overlay, store: FileStore) -> Snapshot:
    """Return the current states of the files that match.

    While MongoDB is unavailable, a snapshot by a filter other than ids contains only what the
    overlay holds and is marked incomplete.

    Raises:
        UnavailableError: MongoDB is unavailable, and some of the requested ids are neither held nor
            so new that the tail delivers them from their beginning.
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
    """Return the documents of files. Without MongoDB, new files have none."""
    try:
        return await store.get_many(file_ids, wanted.visible_to)
    except MongoUnavailableError:
        if all(overlay.is_new(file_id) for file_id in overlay.unheld(file_ids)):
            return {}
        raise


async def _listed(wanted: Filter, store: FileStore) -> tuple[dict[str, Update], bool]:
    """Return the files that MongoDB lists, and whether the list is complete."""
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
        log.warning("a stream starts without the states from MongoDB: %s", error)
        return {}, False
    return {status.file_id: Update(status) for status in page.items}, page.next is None
