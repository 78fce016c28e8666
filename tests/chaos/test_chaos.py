"""The short chaos run: about 150 files go in while pods are killed, paused, drained and added.

`make chaos` is the long run, which also hits the broker, MongoDB and the status service.
"""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from shared.settings import Settings
from tests.chaos.checker import PROMISES, describe, summary
from tests.chaos.evidence import Evidence, Problem
from tests.chaos.faults import Kind, make_schedule
from tests.chaos.plan import make_plan
from tests.chaos.run import run
from waybill.local.parts import Parts

SEED = int(os.environ.get("WAYBILL_CHAOS_SEED", "1"))

PODS = 3
FILES = 150
SECONDS = 12.0
"""Seconds over which files are uploaded and faults are injected."""

KINDS = (Kind.KILL, Kind.PAUSE, Kind.DRAIN, Kind.ADD)

CALM = 45.0
"""Seconds after the last fault for everything to finish; about ten are usual."""


@pytest.fixture(scope="module")
async def evidence(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("chaos")
    name = f"chaos-{uuid.uuid4().hex[:12]}"  # Other runs may use the same Kafka concurrently.
    settings = Settings(
        kafka=parts.kafka,
        mongodb=parts.mongodb,
        database=name,
        topic_prefix=f"{name}.",
        blobs=str(folder / "blobs"),
        blobs_fsync=False,
        demo=True,
    )
    plan = make_plan(SEED, files=FILES, seconds=SECONDS)
    schedule = make_schedule(SEED, KINDS, slots=PODS, gap=(1.5, 3.0))
    print(f"seed {SEED}; schedule: {', '.join(map(str, schedule))}; logs in {folder}")  # noqa: T201
    return await run(settings, folder, plan, schedule, pods=PODS, calm=CALM)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_a_promise_is_kept_while_pods_are_killed_paused_drained_and_added(
    evidence: Evidence, promise: Callable[[Evidence], Iterator[Problem]]
) -> None:
    problems = list(promise(evidence))
    assert not problems, "\n".join([*summary(evidence), describe(evidence, problems)])


def test_the_faults_did_strike_work(evidence: Evidence) -> None:
    """Otherwise the promises above were not tested."""
    assert {hit.kind for hit in evidence.hits} == set(KINDS)
    begun = "\n".join(summary(evidence))
    print(begun)  # noqa: T201
    assert "cut off" in begun or "given back" in begun
