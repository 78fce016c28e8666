"""A wrong clock is corrected with Kafka's timestamps; a right one is not changed."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.background.clock_probe import CLOCK_PROBE, clock_probe
from shared.background.supervision import Supervisor
from shared.clock import BrokerClock
from shared.events import ids, moments
from shared.events.topics import UPLOADED
from shared.kafka.connection import admin_client
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.builders import uploaded

SLOW = -3000.0


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> BrokerClock:
    """Give the test a clock of its own, isolated from other tests."""
    fresh = BrokerClock()
    for module in ("shared.clock", "shared.kafka.publishing", "shared.kafka.messaging"):
        monkeypatch.setattr(f"{module}.CLOCK", fresh)
    return fresh


@pytest.fixture
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the local clock back by 50 minutes."""
    right, right_ns = time.time, time.time_ns
    monkeypatch.setattr("time.time", lambda: right() + SLOW)
    monkeypatch.setattr("time.time_ns", lambda: right_ns() + int(SLOW * 1e9))


@pytest.mark.parametrize("off", [-3000.0, -2.0, 2.0, 3000.0])
def test_an_acknowledgement_tells_how_far_the_clock_is_off(off: float) -> None:
    known = BrokerClock()
    known.acknowledged(1000.0, sent=1000.0 + off - 0.01, received=1000.0 + off + 0.01)
    assert known.skew == pytest.approx(off, abs=0.02)


@pytest.mark.parametrize(("sent", "received"), [(999.5, 1000.5), (1000.2, 1000.3), (990.0, 1020.0)])
def test_a_clock_that_may_be_right_is_left_alone(sent: float, received: float) -> None:
    known = BrokerClock()
    known.acknowledged(1000.0, sent=sent, received=received)
    assert known.skew == 0
    assert known.note is None


def test_the_sharper_measurement_counts_until_another_one_contradicts_it() -> None:
    known = BrokerClock()
    known.acknowledged(1000.0, sent=900.0, received=900.1)
    known.acknowledged(1000.0, sent=880.0, received=920.0)
    assert known.skew == pytest.approx(-99.95)
    known.acknowledged(1000.0, sent=999.9, received=1000.1)  # The clock was adjusted.
    assert known.skew == 0


def test_a_record_that_was_read_tells_that_the_clock_is_behind_but_not_that_it_is_ahead() -> None:
    known = BrokerClock()
    known.was_read(1000.0, at=4000.0)
    assert known.skew == 0
    known.was_read(4000.0, at=1000.0)
    assert known.skew == -3000
    assert known.note is not None
    assert "3000 s behind" in known.note


@pytest.mark.usefixtures("slow_machine")
async def test_a_pod_with_a_slow_clock_tells_the_right_time_after_its_first_event(
    settings: Settings, own_clock: BrokerClock
) -> None:
    await create_topics(settings)
    before = moments.utc_now()
    async with Publisher(settings, client_id="slow") as publisher:
        await publisher.publish(uploaded())
    assert own_clock.skew == pytest.approx(SLOW, abs=1)
    assert (moments.utc_now() - before).total_seconds() == pytest.approx(-SLOW, abs=60)
    age = ids.file_id_age(ids.new_file_id(), moments.utc_now())
    assert age is not None
    assert abs(age) < 5


@pytest.mark.parametrize("fast", [-3000.0, 3000.0])
async def test_a_pod_that_publishes_nothing_learns_the_right_time_by_itself(
    settings: Settings, own_clock: BrokerClock, monkeypatch: pytest.MonkeyPatch, fast: float
) -> None:
    right = time.time
    monkeypatch.setattr("time.time", lambda: right() + fast)
    await create_topics(settings)
    supervisor = Supervisor()
    async with Publisher(settings, client_id="quiet") as publisher:
        run = clock_probe(publisher)
        async with supervisor.running((CLOCK_PROBE, run)), asyncio.timeout(30):
            while own_clock.skew == 0:
                await asyncio.sleep(0.01)
    assert own_clock.skew == pytest.approx(fast, abs=1)


async def test_topics_of_earlier_versions_get_the_brokers_time_and_keep_their_settings(
    settings: Settings,
) -> None:
    name = settings.topic_prefix + UPLOADED.name
    async with admin_client(settings) as admin:
        old = {"cleanup.policy": "compact", "max.message.bytes": "2000000"}
        topic = NewTopic(name=name, num_partitions=12, replication_factor=1, topic_configs=old)
        await admin.create_topics([topic])
        await create_topics(settings)
        asked = [ConfigResource(ConfigResourceType.TOPIC, name)]
        found: dict[str, str] = {}
        async with asyncio.timeout(10):
            while found.get("message.timestamp.type") != "LogAppendTime":
                (answer,) = await admin.describe_configs(asked)
                found = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert found["cleanup.policy"] == "compact"
    assert found["max.message.bytes"] == "2000000"


def test_the_time_of_this_process_is_that_of_its_clock(own_clock: BrokerClock) -> None:
    own_clock.offset = 3600.0
    assert (moments.utc_now() - datetime.now(UTC)).total_seconds() == pytest.approx(3600, abs=5)
