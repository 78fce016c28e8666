"""What somebody is told when a file is shared with them, or no longer."""

from services.status.live.cursor import Place
from services.status.live.update import Update, Withdrawal
from services.status.projection.projection import Status
from services.status.projection.shares import Share, share_of
from shared.events.events import AccessEvent, FileShared


def notice(
    before: Status | None, after: Status, event: AccessEvent, place: Place | None
) -> Update | None:
    """The state of a file that is theirs to read now, or that it is not; None if nothing changed.

    Args:
        before: the state before the event. It may lack what MongoDB knew of a reader, as of files
            that this pod first hears of by the event itself.
        place: where the event stands.
    """
    if after is before or after.created_at is None or after.deleted_at is not None:
        return None
    reader = event.data.reader
    known = share_of(before.shares, reader) if before else None
    could_read = known is not None and known.reader is not None
    if isinstance(event, FileShared):
        return None if could_read else Update(after, place=place, reader=reader)
    # Nothing is taken back that was not given; where nothing is known, it was.
    if known is not None and not could_read:
        return None
    theirs = Share(key=event.data.key, reader=reader, offset=-1)
    last = after.model_copy(update={"shares": (*after.shares, theirs)})
    return Withdrawal(after, place=place, before=last, reader=reader)
