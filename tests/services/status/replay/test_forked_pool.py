"""A crew works beside the process that forked it, and ends with it."""

import subprocess
import sys

from services.status.replay.forked_pool import forked_pool

WAITING = """
import os, time
from services.status.crew import crew
with crew(3) as beside:
    print(beside.count, beside.executor.submit(os.getpid).result() != os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_crew_ends_when_the_process_that_forked_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2 True\n"
        process.kill()
        # The output ends with the last process that has it.
        process.communicate(timeout=20)


def test_one_process_has_no_crew() -> None:
    with forked_pool(1) as beside:
        assert beside is None
