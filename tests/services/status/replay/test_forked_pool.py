"""Forked processes share the work of their parent, and end with it."""

import subprocess
import sys

from services.status.replay.forked_pool import forked_pool

WAITING = """
import os, time
from services.status.replay.forked_pool import forked_pool
with forked_pool(3) as workers:
    print(workers.count, workers.executor.submit(os.getpid).result() != os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_pool_ends_when_the_process_that_forked_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2 True\n"
        process.kill()
        # The output ends when the last process that has it ends.
        process.communicate(timeout=20)


def test_one_process_has_no_pool() -> None:
    with forked_pool(1) as workers:
        assert workers is None
