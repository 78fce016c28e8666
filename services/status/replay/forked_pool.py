"""Processes that are forked in the beginning, to work beside the one that was started."""

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
    """Processes that take work from this one."""

    count: int
    pool: Executor


@contextmanager
def forked_pool(processes: int) -> Iterator[ForkedPool | None]:
    """Fork so many processes that this one is among; None if it is to work alone.

    To fork takes milliseconds, where a new process imports for a second. But what was forked has
    none of the other threads, and would share connections: so this comes before there are any.
    """
    if processes == 1:
        yield None
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes - 1, context, initializer=_begin) as pool:
        pool.submit(os.getpid)  # With the first work all of them are forked.
        yield ForkedPool(processes - 1, pool)


def _begin() -> None:
    """Have this process end with its parent, however that ends: it would wait for work for ever.

    A Ctrl-C is for all processes of a terminal, and the parent says what there is to say of it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
