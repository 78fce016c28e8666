"""Recognize faults of the machine in errors, so that no file is blamed for them."""

import errno
import os
import re

from services.processor.failures import failure
from shared.events.facts import Failure

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A disk is full."""

BROKEN = frozenset({errno.EIO, errno.ENFILE, errno.ESTALE, errno.ENODEV, errno.EUCLEAN})
"""A disk or the whole system fails."""

OF_POD = frozenset({errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.EROFS})
"""Faults of the machine only in the pod's own process. A worker has limits of its own, and sees
everything but its own folders as read-only."""

MAX_CAUSES = 20
"""Errors examined in a chain of causes."""

_NUMBER = re.compile(r"\(os error (\d+)\)")
"""Format in which Rust libraries report a system error: as text only."""

_WORDS = {os.strerror(number): number for number in sorted(FULL | BROKEN - {errno.ENODEV})}
"""Without ENODEV: its text is also the start of ENXIO's, "No such device or address"."""

_NO_THREAD = "can't start new thread"
"""Message with which Python reports EAGAIN when it starts a thread."""


def system_error(error: BaseException) -> int | None:
    """Return the errno of the machine fault behind an error, or None.

    Libraries wrap a system error into one of their own, as a cause or as text, and steps turn that
    into `corrupt_document`.
    """
    seen: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if seen is None:
            break
        number = seen.errno if isinstance(seen, OSError) else _number_in(_text_of(seen))
        if number in FULL | BROKEN:
            return number
        seen = seen.__cause__ or seen.__context__
    return None


def fault(number: int) -> Failure:
    """Return the failure for a fault of the machine."""
    if number in FULL:
        return failure("disk_full")
    meaning = f"The machine failed: {os.strerror(number)} ({errno.errorcode[number]})."
    return failure("machine_failed", meaning)


def fault_of_pod(error: BaseException) -> Failure | None:
    """Return the failure for an error in the pod's own process, or None if not the machine's."""
    if isinstance(error, MemoryError):
        return fault(errno.ENOMEM)
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return fault(errno.EAGAIN)
    number = error.errno if isinstance(error, OSError) else None
    if number in OF_POD:
        return fault(number)
    number = system_error(error)
    return None if number is None else fault(number)


def _number_in(text: str) -> int | None:
    if found := _NUMBER.search(text):
        return int(found[1])
    return next((number for words, number in _WORDS.items() if words in text), None)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # The error's own `__str__` fails; see `steps.demo_failures`.
        return ""
