"""A subscriber's backlog is bounded: progress is dropped first, then it is disconnected."""

import asyncio
from typing import Any

import pytest

from services.status.live.cursor import Partition, Place
from services.status.live.delivery import deliver_each, send_heartbeats
from services.status.live.filter import Filter
from services.status.live.subscription import (
    CONFLATE_ABOVE,
    MAX_BACKLOG,
    MAX_BATCH,
    MAX_DELAY,
    Subscription,
)
from services.status.live.update import Batch, Batches, Update
from services.status.projection.projection import apply, fold
from shared.events.events import StatusEvent
from tests.support.builders import about, processing, progressed, uploaded

PARTITION = Partition(1, 0)


def state(file_id: str, *events: StatusEvent, offset: int | None = None) -> Update:
    status = fold(None, [(about(file_id, event), number) for number, event in enumerate(events)])
    assert status is not None
    return Update(status, place=None if offset is None else Place(PARTITION, offset))


def begun(file_id: str, offset: int = 0) -> Update:
    return state(file_id, uploaded(), processing(), offset=offset)


def deliver(subscription: Subscription, *updates: Update, now: float = 0.0) -> int:
    return subscription.deliver(updates, Batches("cursor"), now)


async def test_progress_that_was_overtaken_is_left_out_and_nothing_else() -> None:
    slow = Subscription(Filter())
    reports = [
        state("a", uploaded(), processing(), progressed(seq)) for seq in range(1, CONFLATE_ABOVE)
    ]
    for update in (begun("a"), *reports, begun("b")):
        deliver(slow, update)
    told = await slow.wait()
    assert [(each.status.file_id, each.place is None) for each in told] == [
        ("a", False),
        ("a", True),
        ("b", False),
    ]
    assert told[1] is reports[-1]


async def test_whoever_lets_too_many_states_wait_is_cut_off() -> None:
    cuts: list[bool] = []
    slow = Subscription(Filter(), on_disconnect=lambda: cuts.append(True))
    for number in range(MAX_BACKLOG):
        deliver(slow, begun(f"file-{number}"))
    assert not slow.is_disconnected
    deliver(slow, begun("one-more"))
    assert (slow.is_disconnected, slow.closed, cuts) == (True, True, [True])
    assert await slow.wait() == ()


async def test_whoever_lets_a_state_wait_too_long_is_cut_off() -> None:
    slow = Subscription(Filter())
    deliver(slow, begun("a"), now=100.0)
    deliver(slow, begun("b"), now=100.0 + MAX_DELAY)
    assert not slow.is_disconnected
    assert len(await slow.wait()) == 2
    deliver(slow, begun("c"), now=120.0)
    deliver(slow, begun("d"), now=121.0 + MAX_DELAY)
    assert slow.is_disconnected


async def test_what_a_snapshot_told_is_not_told_again() -> None:
    told = state("a", uploaded(), processing(), progressed(3))
    following = Subscription(Filter())
    following.has_seen(told.status)
    same = state("a", uploaded(), processing(), progressed(3))
    listed = Update(same.status.model_copy(update={"history": ()}))  # List entries have no history.
    newer = state("a", uploaded(), processing(), progressed(4))
    for update in (begun("a"), same, listed, newer):
        deliver(following, update)
    assert await following.wait() == (newer,)


async def test_what_another_pod_told_is_not_told_again() -> None:
    following = Subscription(Filter())
    following.resume({PARTITION: 8}, dict)
    assert not following.wants(begun("a", offset=7))
    assert following.wants(begun("a", offset=8))


async def test_progress_waits_until_this_pod_has_told_what_another_one_did() -> None:
    told: dict[Partition, int] = {PARTITION: 7}
    following = Subscription(Filter())
    following.resume({PARTITION: 8}, lambda: told)
    progress = state("a", uploaded(), processing(), progressed(3))
    assert not following.wants(progress)
    told[PARTITION] = 8
    assert following.wants(progress)


async def test_a_wait_ends_with_the_first_state_or_when_its_time_is_over() -> None:
    following = Subscription(Filter())
    assert await following.wait(0.01) == ()
    waiting = asyncio.create_task(following.wait())
    await asyncio.sleep(0)
    update = begun("a")
    deliver(following, update)
    assert await waiting == (update,)


async def test_a_beat_ends_the_waits_of_streams_and_no_others() -> None:
    timed, endless = Subscription(Filter()), Subscription(Filter())
    waits = [asyncio.create_task(timed.wait(0.2)), asyncio.create_task(endless.wait())]
    await asyncio.sleep(0)
    for subscription in (timed, endless):
        subscription.send_heartbeat(Batches("cursor"))
    await asyncio.sleep(0.01)
    assert [wait.done() for wait in waits] == [False, True]
    assert await asyncio.gather(*waits) == [(), ()]


class Connection:
    """A connection that accepts writes or blocks."""

    def __init__(self) -> None:
        self.is_free = True
        self.written: list[Batch] = []

    def write(self, batch: Batch) -> bool:
        if self.is_free:
            self.written.append(batch)
        return self.is_free


async def test_as_long_as_a_subscriber_sleeps_it_is_told_without_being_woken() -> None:
    connection = Connection()
    following = Subscription(Filter(), direct_writer=connection.write)
    waiting = asyncio.create_task(following.wait())
    await asyncio.sleep(0)
    one, two, three = begun("a"), begun("b"), begun("c")
    assert (deliver(following, one, two), deliver(following, three)) == (2, 1)
    following.send_heartbeat(Batches("later"))
    await asyncio.sleep(0)
    assert not waiting.done()
    told = [(batch.updates, batch.cursor) for batch in connection.written]
    assert told == [((one, two), "cursor"), ((three,), "cursor"), ((), "later")]
    waiting.cancel()


async def test_what_a_connection_does_not_take_is_told_by_the_task_in_order() -> None:
    connection = Connection()
    following = Subscription(Filter(), direct_writer=connection.write)
    waiting = asyncio.create_task(following.wait())
    await asyncio.sleep(0)
    one, two, three = begun("a"), begun("b"), begun("c")
    connection.is_free = False
    assert deliver(following, one) == 0
    connection.is_free = True
    deliver(following, two)  # The task is awake but has not run yet.
    assert await waiting == (one, two)
    deliver(following, three)  # The task is still sending the previous states.
    assert connection.written == []
    assert await following.wait() == (three,)


async def test_a_task_that_no_longer_waits_is_not_overtaken() -> None:
    connection = Connection()
    following = Subscription(Filter(), direct_writer=connection.write)
    assert await following.wait(0.01) == ()
    update = begun("a")
    deliver(following, update)
    assert connection.written == []
    assert await following.wait() == (update,)


async def test_more_than_is_told_in_one_go_is_left_to_the_task() -> None:
    connection = Connection()
    following = Subscription(Filter(), direct_writer=connection.write)
    waiting = asyncio.create_task(following.wait())
    await asyncio.sleep(0)
    many = [begun(f"file-{number}") for number in range(MAX_BATCH + 1)]
    deliver(following, *many)
    assert await waiting == tuple(many)
    assert connection.written == []


async def test_those_who_are_told_the_same_share_what_is_written() -> None:
    connections = [Connection() for _ in range(3)]
    followers = [Subscription(Filter(), direct_writer=each.write) for each in connections]
    waits = [asyncio.create_task(each.wait()) for each in followers]
    await asyncio.sleep(0)
    one, two = begun("a"), begun("b")
    batches = Batches("cursor")
    for follower, updates in zip(followers, ((one, two), (one, two), (two,)), strict=True):
        assert follower.deliver(updates, batches, 0.0) == len(updates)
    first, second, other = (connection.written[0] for connection in connections)
    assert first is second
    assert other is not first
    for wait in waits:
        wait.cancel()


async def test_a_connection_is_not_told_again_what_a_snapshot_told() -> None:
    connection = Connection()
    following = Subscription(Filter(), direct_writer=connection.write)
    following.has_seen(begun("a").status)
    waiting = asyncio.create_task(following.wait())
    await asyncio.sleep(0)
    newer = state("a", uploaded(), processing(), progressed(4))
    deliver(following, begun("a"))
    deliver(following, begun("a"), newer)
    assert [batch.updates for batch in connection.written] == [(newer,)]
    waiting.cancel()


class RecordingWriter(Connection):
    """A detached writer that records how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []

    def end(self) -> None:
        self.ends.append("goodbye")

    def abort(self) -> None:
        self.ends.append("cut")


def detached() -> tuple[Subscription, RecordingWriter]:
    following, line = Subscription(Filter()), RecordingWriter()
    following.detach(line)
    return following, line


def written(line: Connection) -> list[tuple[list[str], str | None]]:
    return [
        ([each.status.file_id for each in batch.updates], batch.cursor) for batch in line.written
    ]


async def test_a_subscriber_is_idle_once_it_is_told_all_that_was() -> None:
    following = Subscription(Filter())
    assert not following.is_idle
    following.is_live = True
    assert following.is_idle
    deliver(following, begun("a"))
    assert not following.is_idle
    await following.wait()
    assert following.is_idle
    following.close()
    assert not following.is_idle


async def test_a_line_is_told_at_once_and_of_silence() -> None:
    following, line = detached()
    assert deliver(following, begun("a"), begun("b")) == 2
    following.send_heartbeat(Batches("later"))
    assert written(line) == [(["a", "b"], "cursor"), ([], "later")]


async def test_what_a_line_does_not_take_waits_until_it_does_and_comes_in_order() -> None:
    following, line = detached()
    line.is_free = False
    assert deliver(following, begun("a")) == 0
    line.is_free = True
    assert deliver(following, begun("b")) == 0  # It must not overtake.
    assert written(line) == [(["a", "b"], "cursor")]
    line.is_free = False
    deliver(following, begun("c"))
    following.drain("too soon")
    line.is_free = True
    following.drain("later")
    assert written(line)[1:] == [(["c"], "later")]


async def test_many_states_come_in_parts_and_the_cursor_with_the_last() -> None:
    following, line = detached()
    deliver(following, *(begun(f"file-{number}") for number in range(2 * MAX_BATCH + 1)))
    assert [(len(files), cursor) for files, cursor in written(line)] == [
        (MAX_BATCH, None),
        (MAX_BATCH, None),
        (1, "cursor"),
    ]


async def test_a_line_that_takes_nothing_is_cut_and_one_that_is_closed_is_told() -> None:
    following, line = detached()
    line.is_free = False
    deliver(following, begun("a"))
    deliver(following, begun("b"), now=MAX_DELAY + 1)
    assert (following.is_disconnected, line.ends) == (True, ["cut"])
    other, line = detached()
    other.close()
    assert line.ends == ["goodbye"]


class Broken:
    """A subscriber whose connection fails with an unexpected error."""

    def __init__(self) -> None:
        self.is_disconnected = False

    def deliver(self, *_: object) -> int:
        raise ZeroDivisionError("nobody foresaw it")

    def send_heartbeat(self, _: object) -> None:
        raise ZeroDivisionError("nobody foresaw it")

    def disconnect(self) -> None:
        self.is_disconnected = True


def test_a_subscriber_that_cannot_be_told_is_cut_off_and_keeps_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken: Any = Broken()
    sound = Subscription(Filter())
    update = Update(apply(None, uploaded(), 0))
    deliver_each({broken: [update], sound: [update]}, Batches(""), 0.0)
    assert broken.is_disconnected
    assert not sound.is_disconnected
    assert sound._backlog == [update]
    assert update.status.file_id in caplog.text
    broken.is_disconnected = False
    send_heartbeats([broken, sound], Batches(""))
    assert broken.is_disconnected
