"""Both clients against a whole stack, and their handling of a broken stream."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import waybill
from shared.settings import DEMO_TYPE
from tests.support.stack import RunningStack
from waybill.following import RECONNECT_DELAYS, Following

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)


@pytest.fixture
def addresses(stack: RunningStack) -> waybill.Addresses:
    return waybill.Addresses(status=stack.status_url, upload=stack.upload_url)


@pytest.mark.parametrize("code", EXAMPLES, ids=["sync", "async"])
async def test_the_examples_run(
    addresses: waybill.Addresses,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WAYBILL_STATUS_URL", addresses.status)
    monkeypatch.setenv("WAYBILL_UPLOAD_URL", addresses.upload)
    monkeypatch.chdir(ROOT)
    async with asyncio.timeout(60):
        await asyncio.to_thread(exec, compile(code, "docs/client.md", "exec"), {})
    told = capsys.readouterr().out.split()
    assert "completed" in told


def test_a_file_that_was_withdrawn_is_news_when_it_is_shared_again() -> None:
    state = b'data: {"file_id":"f","position":[1],"phase":"queued","deleted_at":null}\n\n'
    following = Following(["f"])
    assert len(following.feed(state + state)) == 1
    assert following.feed(b'event: withdrawn\nid: x\ndata: {"file_id":"f"}\n\n') == []
    assert len(following.feed(state)) == 1


async def test_the_async_client_shares_a_file_and_takes_that_back(
    addresses: waybill.Addresses,
) -> None:
    async with waybill.AsyncClient(addresses) as client:
        uploaded = await client.upload_bytes("a.txt", b"words", size=5)
        file_id = uploaded["file_id"]
        assert await client.share(file_id, "bob") == ["bob"]
        assert await client.shares(file_id) == ["bob"]
        assert await client.unshare(file_id, "bob") == []


async def test_a_watch_goes_on_where_it_broke_when_the_pod_dies(
    stack: RunningStack, addresses: waybill.Addresses
) -> None:
    spec = json.dumps({"steps": 40, "seconds": 8}).encode()
    async with waybill.AsyncClient(addresses) as client:
        uploaded = await client.upload_bytes("demo", spec, size=len(spec), content_type=DEMO_TYPE)
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            async for status in client.watch([uploaded["file_id"]]):
                seen.append(status)
                if len(seen) == 3:
                    os.kill(stack.pids["status"], signal.SIGKILL)
                if status["status"] == "completed":
                    break
        assert await client.wait(uploaded["file_id"]) is not None
    positions = [status["position"] for status in seen]
    assert positions == sorted(positions)
    assert len(positions) == len({tuple(position) for position in positions})


async def test_a_refusal_and_silence_are_told_apart(addresses: waybill.Addresses) -> None:
    async with waybill.AsyncClient(addresses) as client:
        with pytest.raises(waybill.RefusedError) as refused:
            await client.status("nope")
        assert refused.value.code == "unknown_file"
        with pytest.raises(waybill.RefusedError):
            await anext(client.watch(label="no colon"))
    nobody = waybill.Addresses(status="http://127.0.0.1:9", upload="http://127.0.0.1:9")
    async with waybill.AsyncClient(nobody) as client:
        with pytest.raises(waybill.NoAnswerError):
            await client.status("nope")
    with waybill.Client(nobody) as blocking, pytest.raises(waybill.NoAnswerError):
        blocking.status("nope")


def state(number: int, **changes: Any) -> bytes:
    document = {
        "file_id": "a",
        "position": [1, 0, 1, 2, number, 0],
        "phase": "working",
        "deleted_at": None,
        "name": "line\u2028separator",
    }
    return b"data: " + json.dumps(document | changes, ensure_ascii=False).encode() + b"\n\n"


OPENING = b'retry: 1000\n\nevent: subscribed\ndata: {"complete":true}\n\n'


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_is_read_however_it_is_cut_into_pieces(size: int) -> None:
    following = Following(["a", "b"], label="team:a")
    assert following.parameters() == {"ids": "a,b", "label": "team:a"}
    stream = OPENING + state(1) + b": heartbeat\nid: C1\n\n" + b"id: C2\n" + state(2)
    told = [
        status
        for start in range(0, len(stream), size)
        for status in following.feed(stream[start : start + size])
    ]
    assert [status["position"][4] for status in told] == [1, 2]
    assert following.parameters()["cursor"] == "C2"


def test_what_comes_once_more_after_a_break_is_told_once() -> None:
    following = Following()
    assert len(following.feed(state(1) + state(2))) == 2
    following.parameters()
    told = following.feed(state(1) + state(2) + state(3) + state(3, phase="cancelling"))
    assert [status["phase"] for status in told] == ["working", "cancelling"]
    assert len(following.feed(state(3, phase="cancelling", deleted_at="now"))) == 1


def test_half_an_event_before_a_break_is_not_taken_for_the_beginning_of_another() -> None:
    following = Following()
    following.feed(state(1)[:20])
    following.parameters()
    assert len(following.feed(state(1))) == 1


def test_a_stream_is_tried_for_seconds_at_first_and_for_minutes_where_one_broke() -> None:
    following = Following()
    assert 5 < waited_in_vain(following) < 15
    following.feed(b": heartbeat\n\n")
    assert 180 < waited_in_vain(following) < 600
    following.feed(b": heartbeat\n\n")
    for longest in RECONNECT_DELAYS:
        assert longest / 2 <= following.next_delay() <= longest


def waited_in_vain(following: Following) -> float:
    """Return the seconds without an answer until the client gives up."""
    waited = 0.0
    while not following.should_give_up:
        waited += following.next_delay()
    return waited
