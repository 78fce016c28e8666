"""Worker processes that are forked early and share the work of the main process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection


@dataclass(frozen=True)
class ForkedPool:
    """Processes that share the work of the main process."""

    count: int
    executor: Executor


@contextmanager
def forked_pool(processes: int) -> Iterator[ForkedPool | None]:
    """Fork worker processes, so that `processes` run including this one; None for a single process.

    Forking takes milliseconds, while a new process spends a second on imports. However, a forked
    process has none of the other threads and would share open connections. So this must happen
    before any exist.
    """
    if processes == 1:
        yield None
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes - 1, context, initializer=_begin) as pool:
        pool.submit(os.getpid)  # The first task forks all of them.
        yield ForkedPool(processes - 1, pool)


def _begin() -> None:
    """End this process when its parent ends, however that happens; otherwise it would wait forever.

    Ctrl-C reaches all processes of a terminal, and the parent reports it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
