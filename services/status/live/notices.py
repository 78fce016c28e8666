"""Notices for a reader with whom a file is shared or no longer shared."""

from services.status.live.cursor import Place
from services.status.live.update import Update, Withdrawal
from services.status.projection.projection import Status
from services.status.projection.shares import Share, share_of
from shared.events.events import AccessEvent, FileShared


def notice(
    before: Status | None, after: Status, event: AccessEvent, place: Place | None
) -> Update | None:
    """Return the update that the reader of a sharing event receives, or None if nothing changed.

    The update is the current state of a newly shared file, or a withdrawal.

    Args:
        before: the state before the event. It may lack readers that only MongoDB knows, for example
            if this event is the first one that the pod receives for the file.
        place: position of the event in the log.
    """
    if after is before or after.created_at is None or after.deleted_at is not None:
        return None
    reader = event.data.reader
    known = share_of(before.shares, reader) if before else None
    could_read = known is not None and known.reader is not None
    if isinstance(event, FileShared):
        return None if could_read else Update(after, place=place, reader=reader)
    # Withdraw only what was shared. If it is unknown whether the file was shared, assume that it
    # was.
    if known is not None and not could_read:
        return None
    theirs = Share(key=event.data.key, reader=reader, offset=-1)
    last = after.model_copy(update={"shares": (*after.shares, theirs)})
    return Withdrawal(after, place=place, before=last, reader=reader)
