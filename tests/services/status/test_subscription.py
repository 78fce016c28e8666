"""What waits for a subscriber is bounded: progress is left out first, then it is cut off."""

import asyncio

from services.status.cursor import Partition, Place
from services.status.projection import fold
from services.status.subscription import (
    CONFLATE_ABOVE,
    MAX_BACKLOG,
    MAX_DELAY,
    Filter,
    Subscription,
    Update,
)
from shared.events import StatusEvent
from tests.support.builders import about, processing, progressed, uploaded

PARTITION = Partition(1, 0)


def state(file_id: str, *events: StatusEvent, offset: int | None = None) -> Update:
    status = fold(None, [(about(file_id, event), number) for number, event in enumerate(events)])
    assert status is not None
    return Update(status, place=None if offset is None else Place(PARTITION, offset))


def begun(file_id: str, offset: int = 0) -> Update:
    return state(file_id, uploaded(), processing(), offset=offset)


async def test_progress_that_was_overtaken_is_left_out_and_nothing_else() -> None:
    slow = Subscription(Filter())
    reports = [
        state("a", uploaded(), processing(), progressed(seq)) for seq in range(1, CONFLATE_ABOVE)
    ]
    for update in (begun("a"), *reports, begun("b")):
        slow.offer(update, 0.0)
    told = await slow.wait()
    assert [(each.status.file_id, each.place is None) for each in told] == [
        ("a", False),
        ("a", True),
        ("b", False),
    ]
    assert told[1] is reports[-1]


async def test_whoever_lets_too_many_states_wait_is_cut_off() -> None:
    cuts: list[bool] = []
    slow = Subscription(Filter(), on_cut=lambda: cuts.append(True))
    for number in range(MAX_BACKLOG):
        slow.offer(begun(f"file-{number}"), 0.0)
    assert not slow.is_cut
    slow.offer(begun("one-more"), 0.0)
    assert (slow.is_cut, slow.closed, cuts) == (True, True, [True])
    assert await slow.wait() == []


async def test_whoever_lets_a_state_wait_too_long_is_cut_off() -> None:
    slow = Subscription(Filter())
    slow.offer(begun("a"), 100.0)
    slow.offer(begun("b"), 100.0 + MAX_DELAY)
    assert not slow.is_cut
    assert len(await slow.wait()) == 2
    slow.offer(begun("c"), 120.0)
    slow.offer(begun("d"), 121.0 + MAX_DELAY)
    assert slow.is_cut


async def test_what_a_snapshot_told_is_not_told_again() -> None:
    told = state("a", uploaded(), processing(), progressed(3))
    following = Subscription(Filter())
    following.has_seen(told.status)
    same = state("a", uploaded(), processing(), progressed(3))
    listed = Update(same.status.model_copy(update={"history": ()}))  # Lists have no histories.
    newer = state("a", uploaded(), processing(), progressed(4))
    for update in (begun("a"), same, listed, newer):
        following.offer(update, 0.0)
    assert await following.wait() == [newer]


async def test_what_another_pod_told_is_not_told_again() -> None:
    following = Subscription(Filter())
    following.resume({PARTITION: 8})
    assert not following.wants(begun("a", offset=7))
    assert following.wants(begun("a", offset=8))


async def test_a_wait_ends_with_the_first_state_or_when_its_time_is_over() -> None:
    following = Subscription(Filter())
    assert await following.wait(0.01) == []
    waiting = asyncio.create_task(following.wait())
    await asyncio.sleep(0)
    update = begun("a")
    following.offer(update, 0.0)
    assert await waiting == [update]


async def test_a_beat_ends_the_waits_of_streams_and_no_others() -> None:
    timed, endless = Subscription(Filter()), Subscription(Filter())
    waits = [asyncio.create_task(timed.wait(0.2)), asyncio.create_task(endless.wait())]
    await asyncio.sleep(0)
    for subscription in (timed, endless):
        subscription.beat()
    await asyncio.sleep(0.01)
    assert [wait.done() for wait in waits] == [False, True]
    assert await asyncio.gather(*waits) == [[], []]
