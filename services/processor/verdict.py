"""Decide whether a failed attempt counts against its file: a pure decision.

Faults of the machine do not count. An attempt that fails while the disk is full is repeated at no
cost to the file, whatever the parser reported. A document that crashes its parser twice in the same
way is not tried again.
"""

from dataclasses import dataclass

from services.processor.failures import failure
from shared.errors import BlobStoreUnavailableError, StorageFullError
from shared.events.facts import Failure

UNCOUNTED = frozenset({"disk_full", BlobStoreUnavailableError.code, StorageFullError.code})
"""Codes of faults that last until an operator frees space or restarts the store."""

MAX_POSTPONED = 20
"""Consecutive uncounted attempts for other machine faults, about twenty minutes. After that, a file
that causes such a fault each time must fail."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The failure of an attempt, and whether it counts."""

    error: Failure
    counts: bool = True
    """False for a machine fault: the attempt has a number but does not count against the file."""
    crash: str | None = None
    """How the worker process crashed, if it did: a signal name or an exit code."""


@dataclass(frozen=True, kw_only=True)
class DiskEvidence:
    """The state of the scratch disk during an attempt."""

    was_full: bool = False
    has_room_again: bool = False
    """The disk was full, and has free space now that the work has ended."""
    caused_by_file: bool = False
    """The attempt's own temporary files took most of the disk."""


def blame_machine(error: Failure, *, postponed: int) -> Verdict:
    """Return the verdict on a fault of the machine.

    Args:
        postponed: consecutive uncounted attempts at this file.
    """
    counts = error.code not in UNCOUNTED and postponed >= MAX_POSTPONED
    return Verdict(error=error, counts=counts)


def blame_disk(error: Failure, *, disk: DiskEvidence, postponed: int) -> Verdict:
    """Return the verdict on a full disk.

    Work that fills the disk and then cleans up leaves one trace: the space is free again when it
    ends. After `MAX_POSTPONED` consecutive attempts, that is sufficient evidence.

    Args:
        postponed: consecutive uncounted attempts at this file.
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
    """Return the verdict on a failure that a worker reported.

    Args:
        crash: how the process crashed during this attempt.
        last_crash: how it crashed during the previous attempt.
        from_outside: True if the process was killed externally.
        postponed: consecutive uncounted attempts at this file.
    """
    if error.code == "machine_failed":
        return blame_machine(error, postponed=postponed)
    if error.code == "disk_full":
        return blame_disk(error, disk=disk, postponed=postponed)
    if disk.was_full:
        full = failure("disk_full", f"The disk was full, and the attempt ended with {error.code}.")
        return blame_disk(full, disk=disk, postponed=postponed)
    if from_outside:
        return blame_machine(error, postponed=postponed)
    if crash is not None and crash == last_crash:
        meaning = f"The document crashed its parser twice in the same way ({crash})."
        return Verdict(error=failure("document_crashes_reader", meaning), crash=crash)
    return Verdict(error=error, crash=crash)
