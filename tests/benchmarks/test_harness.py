"""The benchmarks' own tools."""

import os

from benchmarks.bare import app
from benchmarks.harness import percentile, usage
from benchmarks.load import HEAD, TAIL, body, run
from tests.support.serving import served


def test_a_body_holds_exactly_the_bytes_asked_for() -> None:
    assert len(b"".join(body(1_000_000))) == len(HEAD) + 1_000_000 + len(TAIL)


def test_the_99th_percentile_of_a_hundred_values_is_the_last_but_none() -> None:
    assert percentile(range(100), 0.99) == 99
    assert percentile([3, 1, 2], 0.5) == 2


def test_a_process_that_is_gone_uses_nothing() -> None:
    assert usage(os.getpid()).rss > 0
    assert usage(2**22 + 1).rss == 0


async def test_the_load_is_taken_whole_by_the_bare_handler() -> None:
    async with served(app) as client:
        answer = await client.post("/api/files/upload", files={"file": ("a", b"x" * 20_000)})
        assert answer.json() == {"size": 20_000}
        url = f"{client.base_url}/api/files/upload"
        result = await run(url, size=20_000, connections=2, seconds=0.1)
    assert isinstance(result["requests"], int)
    assert result["requests"] >= 2
