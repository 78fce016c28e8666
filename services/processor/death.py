"""Decide from a worker's exit code whether the file caused its death."""

import signal

from services.processor import worker
from services.processor.failures import failure
from shared.events.facts import Failure

UNKNOWN_EXIT = 255
"""Exit code that `multiprocessing` reports once the fork server has died."""

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
"""Signals that the kernel sends to a process for its own fault."""

CRASHES = FAULTS | {signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""Signals above, and those with which a native library aborts: out of memory or a failed check.
SIGKILL is not among them: the kernel sends it to the largest process when memory runs out."""

OUTSIDE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
"""Signals that ask a process to stop; they say nothing about the file."""


def cause_of_death(code: int | None) -> Failure:
    """Return the failure for a process that died during a job.

    Args:
        code: exit code as in `multiprocessing`: negative for a signal, None if still alive.
    """
    if code is None or code == UNKNOWN_EXIT:
        # When the cause is unknown, the file is not blamed.
        return failure("worker_crashed", "The worker process disappeared for an unknown reason.")
    if code == worker.EXIT_OUT_OF_MEMORY:
        return failure("out_of_memory")
    if code >= 0:
        return failure("worker_exited", f"The step ended its own process with exit code {code}.")
    name = _signal_name(-code)
    if -code in FAULTS:
        meaning = f"A native library crashed the worker process ({name})."
        return failure("segmentation_fault", meaning)
        # Native libraries raise SIGABRT when they run out of memory, among other reasons.
    return failure("worker_crashed", f"The worker process was killed by {name}.")


def crash_of(code: int | None) -> str | None:
    """Return how a process crashed, for comparing two deaths; None if it did not crash by itself.

    Args:
        code: exit code, as in `cause_of_death`.
    """
    if code is None or code in (UNKNOWN_EXIT, worker.EXIT_OUT_OF_MEMORY):
        return None
    if code >= 0:
        return f"exit code {code}"
    return _signal_name(-code) if -code in CRASHES else None


def is_from_outside(code: int | None) -> bool:
    """Return True if the death of a process says nothing about its file.

    Args:
        code: exit code, as in `cause_of_death`.
    """
    return code is None or code == UNKNOWN_EXIT or -code in OUTSIDE


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Most real-time signals have no name.
        return f"signal {number}"
