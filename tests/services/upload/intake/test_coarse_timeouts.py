"""One timer cancels all waits that exceed their timeout."""

import asyncio

import pytest

from services.upload.coarse_timeouts import CHECK_INTERVAL, CoarseTimeouts

LONG = 60.0


async def wait(timeouts: CoarseTimeouts, seconds: float, *, lasts: float = LONG) -> str:
    with timeouts.timeout(seconds):
        await asyncio.sleep(lasts)
    return "in time"


async def test_what_takes_too_long_is_ended_soon_after_its_time() -> None:
    timeouts, clock = CoarseTimeouts(), asyncio.get_running_loop().time
    begun = clock()
    with pytest.raises(TimeoutError):
        await wait(timeouts, 0.3)
    assert 0.3 <= clock() - begun < 0.3 + CHECK_INTERVAL + 0.5


async def test_each_wait_has_its_own_time() -> None:
    timeouts = CoarseTimeouts()
    waits = [wait(timeouts, 0.05), wait(timeouts, LONG, lasts=0.4), wait(timeouts, 0.2)]
    first, second, third = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(first, TimeoutError)
    assert second == "in time"
    assert isinstance(third, TimeoutError)


async def test_a_task_goes_on_after_its_wait_was_ended() -> None:
    timeouts = CoarseTimeouts()
    with pytest.raises(TimeoutError):
        await wait(timeouts, 0.0)
    assert await wait(timeouts, LONG, lasts=0.3) == "in time"


async def test_what_somebody_else_cancels_is_no_time_out() -> None:
    task = asyncio.create_task(wait(CoarseTimeouts(), LONG))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_at_the_same_moment_stays_cancelled() -> None:
    async def until_both() -> None:
        with timeouts.timeout(0.0):
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                task.cancel()
                raise

    timeouts = CoarseTimeouts()
    task = asyncio.create_task(until_both())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_is_not_hidden() -> None:
    with pytest.raises(KeyError), CoarseTimeouts().timeout(LONG):
        raise KeyError


async def test_it_rests_while_nobody_waits() -> None:
    timeouts = CoarseTimeouts()
    await wait(timeouts, LONG, lasts=0.0)
    await asyncio.sleep(2 * CHECK_INTERVAL + 0.1)
    assert timeouts._timer is None
    with pytest.raises(TimeoutError):
        await wait(timeouts, 0.0)
