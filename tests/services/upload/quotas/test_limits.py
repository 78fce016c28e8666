"""Per-owner limits, and the minimum rate of an upload."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upload.quotas import token_bucket
from services.upload.quotas.token_bucket import TokenBucket
from services.upload.quotas.usage import CONCURRENCY_RETRY_AFTER
from services.upload.settings import UploadSettings
from tests.access.installation import JWT
from tests.access.people import bearer, token
from tests.services.upload.service import Service, UploadedEvents, running


async def post(service: Service, who: str, content: Any = b"one", **more: Any) -> httpx.Response:
    """Upload as an owner unique to this test, because usage counts for a day."""
    tenant = Path(service.settings.blobs).parent.name
    return await service.post(content=content, headers=bearer(token(who, tenant)), **more)


@pytest.fixture
def asking(settings: UploadSettings) -> UploadSettings:
    """Settings of a service with authentication."""
    return UploadSettings(**settings.model_dump(exclude=set(JWT)), **JWT)


async def test_an_owner_who_uploads_too_often_is_told_when_to_come_back(
    asking: UploadSettings, events: UploadedEvents
) -> None:
    async with running(asking, owner_uploads=2) as service:
        assert [(await post(service, "ada")).status_code for _ in range(2)] == [202] * 2

        refused = await post(service, "ada")

        assert refused.status_code == 429
        assert refused.json()["code"] == "allowance_used_up"
        assert "2 uploads within a minute" in refused.json()["detail"]
        assert 25 <= int(refused.headers["retry-after"]) <= 30
        assert (await post(service, "bob")).status_code == 202
        assert len(await events.all()) == 3


async def test_an_owner_may_have_so_many_bytes_in_a_day(
    asking: UploadSettings, events: UploadedEvents
) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        yield b"x" * 60

    async with running(asking, owner_bytes=100) as service:
        assert (await post(service, "ada", b"x" * 40)).status_code == 202
        refused = await post(service, "ada", b"x" * 61)
        assert refused.status_code == 429
        assert "100 bytes a day" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) <= 864

        assert (await post(service, "ada", unannounced())).status_code == 202
        assert (await post(service, "ada", b"x")).status_code == 429
        assert (await post(service, "bob", b"x" * 100)).status_code == 202
        assert len(await events.all()) == 3


PROBE = b"MZ\x90\x00" + bytes(56)
"""An executable of 60 bytes. It is rejected without using up the quota, if the quota allows it."""


async def until_answered(service: Service, status: int) -> None:
    """Repeat until a pod has received another pod's report. The requests use up no quota."""
    async with asyncio.timeout(30):
        while (await post(service, "ada", PROBE)).status_code != status:
            await asyncio.sleep(0.05)


async def test_bytes_that_another_pod_took_are_used_up(asking: UploadSettings) -> None:
    async with running(asking, owner_bytes=100) as one, running(asking, owner_bytes=100) as other:
        assert (await post(one, "ada", b"x" * 80)).status_code == 202

        await until_answered(other, 429)

        assert (await post(other, "ada", b"x" * 20)).status_code == 202
        assert (await post(other, "bob", b"x" * 100)).status_code == 202


async def test_a_pod_that_starts_knows_what_was_used_before(asking: UploadSettings) -> None:
    async with running(asking, owner_bytes=100) as before:
        assert (await post(before, "ada", b"x" * 80)).status_code == 202
    async with running(asking, owner_bytes=100) as after:
        await until_answered(after, 429)


async def test_an_upload_under_way_on_another_pod_takes_its_place(asking: UploadSettings) -> None:
    over = asyncio.Event()

    async def long() -> AsyncIterator[bytes]:
        yield b"some words"
        await over.wait()

    async with running(asking, owner_at_once=1) as one, running(asking, owner_at_once=1) as other:
        under_way = asyncio.create_task(post(one, "ada", long()))
        for pod in (one, other):
            await until_answered(pod, 429)
        refused = await post(other, "ada", PROBE)
        assert refused.json()["code"] == "allowance_used_up"
        assert "1 uploads under way" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) == CONCURRENCY_RETRY_AFTER
        assert (await post(other, "bob", PROBE)).status_code == 415

        over.set()
        assert (await under_way).status_code == 202
        await until_answered(other, 415)


async def test_what_is_refused_uses_up_no_bytes(asking: UploadSettings) -> None:
    async with running(asking, owner_bytes=1000) as service:
        executable = b"MZ\x90\x00" + bytes(996)
        assert (await post(service, "ada", executable)).status_code == 415

        assert (await post(service, "ada", b"x" * 1000)).status_code == 202


async def test_who_is_not_told_from_others_is_not_limited(settings: UploadSettings) -> None:
    async with running(settings, owner_uploads=1, owner_bytes=1) as service:
        for _ in range(3):
            assert (await service.post(content=b"one")).status_code == 202


async def test_a_client_that_trickles_is_given_up(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    async def trickling() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10
            await asyncio.sleep(0.05)

    async with running(settings, idle_timeout=0.5, min_rate=1000) as service:
        answer = await service.post(content=trickling())

    assert answer.status_code == 408
    assert answer.json()["code"] == "stalled"
    assert "1000 bytes a second" in answer.json()["detail"]
    assert service.blobs() == []
    assert await events.all() == []


class TestAllowance:
    def test_fills_again_as_time_goes_by(self) -> None:
        bucket = TokenBucket(size=10, seconds=100)
        assert bucket.take("ada", 10, now=0) == 0
        assert bucket.take("ada", 1, now=0) == 10
        assert bucket.take("ada", 1, now=9) == 1
        assert bucket.take("ada", 1, now=10) == 0
        assert bucket.take("ada", 10, now=1000) == 0

    def test_lets_more_than_it_holds_pass_when_full_and_has_that_paid_back(self) -> None:
        bucket = TokenBucket(size=10, seconds=10)
        assert bucket.take("ada", 30, now=0) == 0
        assert bucket.take("ada", 10, now=0) == 30

    def test_forgets_who_was_not_seen_for_longest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(token_bucket, "MAX_OWNERS", 2)
        bucket = TokenBucket(size=1, seconds=100)
        for owner in ("ada", "bob", "eve"):
            bucket.take(owner, 1, now=0)

        assert bucket.take("bob", 1, now=0) > 0
        assert bucket.take("ada", 1, now=0) == 0

    @given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 20)), max_size=50))
    def test_never_gives_more_than_its_size_and_what_flowed_in(
        self, asks: list[tuple[float, float]]
    ) -> None:
        bucket = TokenBucket(size=20, seconds=10)
        now = taken = 0.0
        for pause, amount in asks:
            now += pause
            if bucket.take("ada", amount, now) == 0:
                taken += amount
        assert taken <= 20 + 2 * now + 1e-6
