"""Decide by the exit code of a worker process whether its file is to blame for its death."""

import signal

from services.processor import worker
from services.processor.failures import failure
from shared.events.facts import Failure

UNKNOWN_EXIT = 255
"""Exit code that `multiprocessing` reports of a process after the fork server has died."""

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
"""Signals by which the kernel ends a process that broke itself."""

CRASHES = FAULTS | {signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""The same, and those by which a native library gives up: without memory, or at a failed check. The
kernel's SIGKILL is none: it ends what is largest when the machine has no memory left."""

OUTSIDE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
"""Signals by which somebody asks a process to end: they say nothing of the file."""


def cause_of_death(code: int | None) -> Failure:
    """Return the failure for the exit code of a process that died over a job.

    Args:
        code: as of `multiprocessing`: negative for a signal, None if the process still lives.
    """
    if code is None or code == UNKNOWN_EXIT:
        # A pod that cannot tell blames itself, and not the file.
        return failure("worker_crashed", "The worker process is gone; nobody knows what ended it.")
    if code == worker.EXIT_OUT_OF_MEMORY:
        return failure("out_of_memory")
    if code >= 0:
        return failure("worker_exited", f"The work ended its own process with exit code {code}.")
    name = _signal_name(-code)
    if -code in FAULTS:
        meaning = f"A native library broke the process of the work ({name})."
        return failure("segmentation_fault", meaning)
    # SIGABRT is what a native library raises that gets no memory, among other reasons.
    return failure("worker_crashed", f"The worker process was killed by {name}.")


def crash_of(code: int | None) -> str | None:
    """Return how a process died of its own doing, so that two deaths can be compared; else None.

    Args:
        code: as of `cause_of_death`.
    """
    if code is None or code in (UNKNOWN_EXIT, worker.EXIT_OUT_OF_MEMORY):
        return None
    if code >= 0:
        return f"exit code {code}"
    return _signal_name(-code) if -code in CRASHES else None


def is_from_outside(code: int | None) -> bool:
    """Return whether the death of a process says nothing of the file that it worked on.

    Args:
        code: as of `cause_of_death`.
    """
    return code is None or code == UNKNOWN_EXIT or -code in OUTSIDE


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Most real-time signals have no name.
        return f"signal {number}"
