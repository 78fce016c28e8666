"""Faults in pods and infrastructure, and their schedule: a pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.kafka.messaging import SESSION_TIMEOUT_MS

SESSION = SESSION_TIMEOUT_MS / 1000

RESTART_AFTER = 1.0
"""Seconds until a stopped pod is restarted, as an orchestrator does."""

PAUSE = SESSION + 2.5
"""Seconds for which a pod is paused: its group expels it, others take over, then it resumes."""

AFTERMATH = timedelta(seconds=2 * SESSION + 8)
"""How long the effects of a fault may last: the session timeout, the rebalance, the start of
another pod on a busy machine, and the rebalance that follows."""


class Kind(StrEnum):
    """Kinds of faults."""

    KILL = "kill"
    """SIGKILL: the pod is gone and publishes or commits nothing more."""
    PAUSE = "pause"
    """SIGSTOP to the pod and its workers for longer than the session timeout; then SIGCONT."""
    DRAIN = "drain"
    """SIGTERM: the pod shuts down and is restarted, as in a deployment."""
    ADD = "add"
    """An additional pod for the rest of the run."""
    KILL_BROKER = "kill-broker"
    """SIGKILL to Kafka, which is restarted as soon as an orchestrator would."""
    STOP_BROKER = "stop-broker"
    """SIGTERM to Kafka, which then stays down for 90 seconds."""
    FREEZE_BROKER = "freeze-broker"
    """SIGSTOP to Kafka: connections stay open without any response; then SIGCONT."""
    FILL_LOG = "fill-log"
    """Kafka's data disk is full, which ends Kafka; it restarts when there is space."""
    KILL_MONGODB = "kill-mongodb"
    STOP_MONGODB = "stop-mongodb"
    """SIGTERM to MongoDB, which then stays down for three minutes; streams must continue."""
    KILL_STATUS = "kill-status"
    FILL_SCRATCH = "fill-scratch"
    """The disk of the workers' temporary files is full, then freed."""
    FILL_BLOBS = "fill-blobs"
    """The disk of the blob store is full, then freed."""
    SLOW_CLOCK = "slow-clock"
    """SIGTERM to a pod; the clock of its next life is 50 minutes slow."""
    FAST_CLOCK = "fast-clock"
    """SIGTERM to a pod; the clock of its next life is 50 minutes fast."""
    KILL_LOOPS = "kill-loops"
    """SIGTERM to a pod; in its next life each background loop is killed every few seconds."""
    KILL_SERVICE_LOOPS = "kill-service-loops"
    """The same for upload and status, which are restarted normally after 30 seconds."""
    WRONG_SERVICE_CLOCKS = "wrong-service-clocks"
    """SIGTERM to upload and status; for 30 seconds one is 50 minutes slow and one fast."""
    END = "end"
    """Not a fault: a pod with a loop that cannot be restarted logs this and exits."""


POD_FAULTS = (
    *(Kind.KILL, Kind.PAUSE, Kind.DRAIN),
    *(Kind.SLOW_CLOCK, Kind.FAST_CLOCK, Kind.KILL_LOOPS),
)
BROKER_FAULTS = (Kind.KILL_BROKER, Kind.STOP_BROKER, Kind.FREEZE_BROKER, Kind.FILL_LOG)
MONGODB_FAULTS = (Kind.KILL_MONGODB, Kind.STOP_MONGODB)
STATUS_FAULTS = (Kind.KILL_STATUS, Kind.KILL_SERVICE_LOOPS, Kind.WRONG_SERVICE_CLOCKS)
"""A status service cannot start without MongoDB, and streams are judged in the meantime."""
DISK_FAULTS = (Kind.FILL_SCRATCH, Kind.FILL_BLOBS, Kind.FILL_LOG)
"""Faults that need separate file systems, which only root can mount."""
CLOCK_FAULTS = (Kind.SLOW_CLOCK, Kind.FAST_CLOCK, Kind.WRONG_SERVICE_CLOCKS)
"""Faults that need a compiled library."""
PART_FAULTS = (*BROKER_FAULTS, *MONGODB_FAULTS, Kind.FILL_SCRATCH, Kind.FILL_BLOBS)

ODD_LIFE = 30.0
"""Seconds for which the loops of upload and status are killed, or their clocks are wrong."""

SKEW = timedelta(minutes=50)
"""Error of a wrong clock."""

AWAY = {
    Kind.KILL_BROKER: 2.0,
    Kind.STOP_BROKER: 90.0,
    Kind.FREEZE_BROKER: 45.0,
    Kind.FILL_LOG: 15.0,
    Kind.KILL_MONGODB: 2.0,
    Kind.STOP_MONGODB: 180.0,
    Kind.FILL_SCRATCH: 20.0,
    Kind.FILL_BLOBS: 20.0,
}
"""Seconds of an outage or a full disk, without the time needed to stop and start."""

RECOVERY = {
    Kind.KILL: 6.0,
    Kind.PAUSE: PAUSE + 2.0,
    Kind.DRAIN: 12.0,
    Kind.SLOW_CLOCK: 15.0,
    Kind.FAST_CLOCK: 15.0,
    Kind.ADD: 5.0,
    **{kind: AWAY[kind] + 20.0 for kind in BROKER_FAULTS},
    **{kind: AWAY[kind] + 15.0 for kind in MONGODB_FAULTS},
    Kind.KILL_STATUS: 30.0,
    Kind.KILL_LOOPS: 15.0,
    Kind.KILL_SERVICE_LOOPS: ODD_LIFE + 45.0,
    Kind.WRONG_SERVICE_CLOCKS: ODD_LIFE + 45.0,
}
"""Seconds before the same target can be hit again; earlier there may be nothing to hit. A pod can
neither become ready nor shut down cleanly without Kafka, so the broker has longer."""

LONG_OUTAGES = (Kind.STOP_BROKER, Kind.FREEZE_BROKER, Kind.FILL_LOG)
"""Nothing else starts before Kafka has recovered, since a pod could neither shut down cleanly nor
start. Earlier faults continue, such as the three minutes without MongoDB."""

EARLY_SHARE = 4
"""The outage of MongoDB starts within the first quarter of the faults, so that others occur during
it instead of waiting for its end."""


@dataclass(frozen=True)
class Fault:
    """One fault to inject."""

    at: float
    """Seconds after the start of the run."""
    kind: Kind
    slot: int | None = None
    """The pod it affects; None if it affects no pod."""

    @property
    def concerns_part(self) -> bool:
        """True if it affects Kafka, MongoDB or a disk instead of a process of Waybill."""
        return self.kind in PART_FAULTS


@dataclass(frozen=True)
class Hit:
    """An injected fault."""

    kind: Kind
    pod: str | None
    begin: datetime
    end: datetime
    """Time at which the pod or the infrastructure had recovered."""

    def explains(self, since: datetime, until: datetime) -> bool:
        """Return True if it may explain an effect between these times."""
        return self.begin <= until and since <= self.end + AFTERMATH


def make_schedule(
    seed: int | str, kinds: Sequence[Kind], *, slots: int, gap: tuple[float, float]
) -> tuple[Fault, ...]:
    """Order these faults and assign times and pods, as determined by the seed.

    Args:
        slots: number of pods at the start.
        gap: shortest and longest seconds between two faults; more while no pod has recovered.
    """
    chance = random.Random(f"faults {seed}")
    well_from = dict.fromkeys(range(slots), 0.0)
    broker_well_from = mongodb_well_from = 0.0
    faults: list[Fault] = []
    at = 0.0
    for kind in _order(chance, kinds):
        at += chance.uniform(*gap)
        slot, when = None, at
        if kind in POD_FAULTS:
            when = at = max(at, min(well_from.values()))
            slot = chance.choice([each for each, well in well_from.items() if well <= at])
            well_from[slot] = at + RECOVERY[kind]
        elif kind is Kind.ADD:
            well_from[len(well_from)] = at + RECOVERY[kind]
        elif kind in BROKER_FAULTS:
            when = at = max(at, broker_well_from)
            broker_well_from = at + RECOVERY[kind]
        elif kind in MONGODB_FAULTS or kind in STATUS_FAULTS:
            # These wait for one another; others need not wait for them.
            when = max(at, mongodb_well_from)
            mongodb_well_from = when + RECOVERY[kind]
        faults.append(Fault(round(when, 2), kind, slot))
        if kind in LONG_OUTAGES:
            at = broker_well_from
    return tuple(sorted(faults, key=lambda fault: fault.at))


def seconds_without_mongodb_alone(schedule: Sequence[Fault]) -> float:
    """Return the seconds for which MongoDB is down while Kafka is healthy."""
    clear = 0.0
    for stop in schedule:
        if stop.kind is Kind.STOP_MONGODB:
            end = stop.at + AWAY[stop.kind]
            clear += end - stop.at
            for fault in schedule:
                if fault.kind in BROKER_FAULTS:
                    well = fault.at + RECOVERY[fault.kind]
                    clear -= max(0.0, min(end, well) - max(stop.at, fault.at))
    return clear


def _order(chance: random.Random, kinds: Sequence[Kind]) -> list[Kind]:
    order = list(kinds)
    chance.shuffle(order)
    if Kind.STOP_MONGODB in order:
        order.remove(Kind.STOP_MONGODB)
        order.insert(chance.randrange(len(order) // EARLY_SHARE + 1), Kind.STOP_MONGODB)
    return order
