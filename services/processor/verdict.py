"""Decide whether a failed attempt counts against its file: a pure decision.

The machine's faults are not the document's. An attempt that fails while the disk is full is made
again and costs the file nothing, whatever the reader reported. A document that crashes its reader
twice in the same way will do so again.
"""

from dataclasses import dataclass

from services.processor.failures import failure
from shared.errors import BlobStoreUnavailableError, StorageFullError
from shared.events.facts import Failure

UNCOUNTED = frozenset({"disk_full", BlobStoreUnavailableError.code, StorageFullError.code})
"""Codes of faults that last until somebody makes room or restarts the store."""

MAX_POSTPONED = 20
"""Attempts that other faults of the machine may cost without being counted, some twenty minutes: a
file that provokes such a fault each time must end."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why an attempt failed, and whether it counts."""

    error: Failure
    counts: bool = True
    """False for a fault of the machine: the attempt has a number, and costs the file nothing."""
    crash: str | None = None
    """How the worker process died, if it did: the name of a signal, or an exit code."""


@dataclass(frozen=True, kw_only=True)
class DiskEvidence:
    """What the disk for temporary files was like during an attempt."""

    was_full: bool = False
    has_room_again: bool = False
    """It was full, and has room now that the work is over."""
    caused_by_file: bool = False
    """The temporary files of the attempt itself took most of the disk."""


def blame_machine(error: Failure, *, postponed: int) -> Verdict:
    """Return the verdict on a fault of the machine.

    Args:
        postponed: attempts at this file that such faults have cost in a row.
    """
    counts = error.code not in UNCOUNTED and postponed >= MAX_POSTPONED
    return Verdict(error=error, counts=counts)


def blame_disk(error: Failure, *, disk: DiskEvidence, postponed: int) -> Verdict:
    """Return the verdict on a disk that was full.

    Work that fills the disk and then removes what it wrote leaves no other trace than the room that
    is back when it ends. After `MAX_POSTPONED` attempts in a row that is evidence enough.

    Args:
        postponed: attempts at this file that faults of the machine have cost in a row.
    """
    has_room = disk.has_room_again or not disk.was_full
    is_suspicious = has_room and postponed >= MAX_POSTPONED
    return Verdict(error=error, counts=disk.caused_by_file or is_suspicious)


def judge(
    error: Failure,
    *,
    disk: DiskEvidence,
    crash: str | None = None,
    last_crash: str | None = None,
    from_outside: bool = False,
    postponed: int = 0,
) -> Verdict:
    """Return the verdict on an attempt that a worker process says has failed.

    Args:
        crash: how the process died over it.
        last_crash: how the process died over the attempt before.
        from_outside: whether it did not die of its own doing.
        postponed: attempts that faults of the machine have cost in a row.
    """
    if error.code == "machine_failed":
        return blame_machine(error, postponed=postponed)
    if error.code == "disk_full":
        return blame_disk(error, disk=disk, postponed=postponed)
    if disk.was_full:
        full = failure("disk_full", f"The disk was full, and the work ended with {error.code}.")
        return blame_disk(full, disk=disk, postponed=postponed)
    if from_outside:
        return blame_machine(error, postponed=postponed)
    if crash is not None and crash == last_crash:
        meaning = f"The document crashed the program that reads it twice in the same way ({crash})."
        return Verdict(error=failure("document_crashes_reader", meaning), crash=crash)
    return Verdict(error=error, crash=crash)
