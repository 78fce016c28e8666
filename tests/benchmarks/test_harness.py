"""The benchmarks' own tools."""

import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.bare import app
from benchmarks.harness import Meter, Usage, percentile, usage, usage_of_children
from benchmarks.load import HEAD, TAIL, body, run
from benchmarks.peers.running import PEERS, missing
from benchmarks.scaling import rate_between
from tests.support.serving import served


def test_a_body_holds_exactly_the_bytes_asked_for() -> None:
    assert len(b"".join(body(1_000_000))) == len(HEAD) + 1_000_000 + len(TAIL)


def test_the_99th_percentile_of_a_hundred_values_is_the_last_but_none() -> None:
    assert percentile(range(100), 0.99) == 99
    assert percentile([3, 1, 2], 0.5) == 2


def test_a_process_that_is_gone_uses_nothing() -> None:
    assert usage(os.getpid()).rss > 0
    assert usage(2**22 + 1).rss == 0


def test_what_a_child_used_stays_counted_when_it_is_gone() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    command = [sys.executable, "-c", busy]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        before = usage_of_children(os.getpid())
        child.kill()
    after = usage_of_children(os.getpid())
    assert after.cpu >= before.cpu >= 0.2


def test_a_run_tells_what_its_processes_used_meanwhile_and_hold_at_the_end() -> None:
    looks = iter(
        [
            {"a": Usage(cpu=10.0, rss=5), "b": Usage(cpu=1.0, rss=1)},
            {"a": Usage(cpu=12.0, rss=9), "b": Usage(cpu=1.5, rss=1)},
        ]
    )
    meter = Meter(lambda: next(looks))
    while not meter.seconds:
        pass
    run = meter.stop(500)
    assert run.cpu_per_thousand("a") == 4.0
    assert run.cpu_per_thousand("a", "b") == 5.0
    assert run.used["a"].rss == 9


def test_work_that_is_not_measured_is_known_as_that_of_others() -> None:
    meter = Meter(dict)
    while meter.seconds < 0.3:
        pass  # this process is not among those looked at
    assert meter.stop(1).others > 0.3


def test_the_rate_is_that_of_the_part_of_a_run_asked_for() -> None:
    slow_start_and_end = [(0.0, 0), (10.0, 10), (11.0, 60), (12.0, 110), (30.0, 120)]
    assert rate_between(slow_start_and_end, 10, 100) == 50


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_without_redis_says_what_to_install(
    peer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "apt-get install redis-server" in (missing(peer) or "")


async def test_the_load_is_taken_whole_by_the_bare_handler() -> None:
    async with served(app) as client:
        answer = await client.post("/api/files/upload", files={"file": ("a", b"x" * 20_000)})
        assert answer.json() == {"size": 20_000}
        url = f"{client.base_url}/api/files/upload"
        result = await run(url, size=20_000, connections=2, seconds=0.1)
    assert isinstance(result["requests"], int)
    assert result["requests"] >= 2
