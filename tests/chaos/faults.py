"""What is done to the pods and to the parts, and when: a pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.kafka.messaging import SESSION_TIMEOUT_MS

SESSION = SESSION_TIMEOUT_MS / 1000

RESTART_AFTER = 1.0
"""Seconds until a pod that is gone is started again, as an orchestrator does."""

PAUSE = SESSION + 2.5
"""Seconds a pod stands still: its group takes it for dead, others go on, and then it wakes."""

AFTERMATH = timedelta(seconds=2 * SESSION + 8)
"""How long after a fault what it did may show: the silence that the group waits for, the rebalance,
the start of another pod on a busy machine, and the rebalance that this one brings."""


class Kind(StrEnum):
    """What can be done."""

    KILL = "kill"
    """SIGKILL: the pod is gone, and nothing of its own is said or committed any more."""
    PAUSE = "pause"
    """SIGSTOP to the pod and its workers, past the session time-out; then SIGCONT."""
    DRAIN = "drain"
    """SIGTERM: the pod ends in good order and is started again, as in a deploy."""
    ADD = "add"
    """One pod more, for the rest of the run."""
    KILL_BROKER = "kill-broker"
    """SIGKILL to Kafka, which is started again as soon as an orchestrator would."""
    STOP_BROKER = "stop-broker"
    """SIGTERM to Kafka, which then is away for a minute and a half."""
    FREEZE_BROKER = "freeze-broker"
    """SIGSTOP to Kafka: connections stay open and nothing answers; then SIGCONT."""
    FILL_LOG = "fill-log"
    """The disk of Kafka's data is full, which ends Kafka; it starts again when there is room."""
    KILL_MONGODB = "kill-mongodb"
    STOP_MONGODB = "stop-mongodb"
    """SIGTERM to MongoDB, which then is away for three minutes; streams must go on."""
    KILL_STATUS = "kill-status"
    FILL_SCRATCH = "fill-scratch"
    """The disk of the workers' temporary files is full, then freed."""
    FILL_BLOBS = "fill-blobs"
    """The disk of the blob store is full, then freed."""
    SLOW_CLOCK = "slow-clock"
    """SIGTERM to a pod; its next life has a clock that is 50 minutes slow."""
    FAST_CLOCK = "fast-clock"
    """SIGTERM to a pod; its next life has a clock that is 50 minutes fast."""
    KILL_LOOPS = "kill-loops"
    """SIGTERM to a pod; in its next life each background loop is killed every few seconds."""
    KILL_SERVICE_LOOPS = "kill-service-loops"
    """The same with upload and status, which are started once more after half a minute."""
    WRONG_SERVICE_CLOCKS = "wrong-service-clocks"
    """SIGTERM to upload and status; for half a minute one is 50 minutes slow and one fast."""
    END = "end"
    """No fault: a pod whose loop cannot be restarted says so in its log and ends."""


POD_FAULTS = (
    *(Kind.KILL, Kind.PAUSE, Kind.DRAIN),
    *(Kind.SLOW_CLOCK, Kind.FAST_CLOCK, Kind.KILL_LOOPS),
)
BROKER_FAULTS = (Kind.KILL_BROKER, Kind.STOP_BROKER, Kind.FREEZE_BROKER, Kind.FILL_LOG)
MONGODB_FAULTS = (Kind.KILL_MONGODB, Kind.STOP_MONGODB)
STATUS_FAULTS = (Kind.KILL_STATUS, Kind.KILL_SERVICE_LOOPS, Kind.WRONG_SERVICE_CLOCKS)
"""A status service cannot start while MongoDB is away, and streams are judged meanwhile."""
DISK_FAULTS = (Kind.FILL_SCRATCH, Kind.FILL_BLOBS, Kind.FILL_LOG)
"""What needs file systems of our own, which only root may mount."""
CLOCK_FAULTS = (Kind.SLOW_CLOCK, Kind.FAST_CLOCK, Kind.WRONG_SERVICE_CLOCKS)
"""What needs a library that is compiled for it."""
PART_FAULTS = (*BROKER_FAULTS, *MONGODB_FAULTS, Kind.FILL_SCRATCH, Kind.FILL_BLOBS)

STRANGE_LIFE = 30.0
"""Seconds for which the loops of upload and status are killed, or their clocks are wrong."""

SKEW = timedelta(minutes=50)
"""How wrong a wrong clock is."""

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
"""Seconds a part is away or a disk full, beside the time that a part needs to end and to start."""

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
    Kind.KILL_SERVICE_LOOPS: STRANGE_LIFE + 45.0,
    Kind.WRONG_SERVICE_CLOCKS: STRANGE_LIFE + 45.0,
}
"""Seconds after which the same is hit again at the earliest; before, there may be nothing to hit.
A pod cannot become ready, or end in good order, while Kafka is away, so the broker has longer."""

LONG_OUTAGES = (Kind.STOP_BROKER, Kind.FREEZE_BROKER, Kind.FILL_LOG)
"""Nothing else begins before Kafka is well again: a pod could neither end in good order meanwhile
nor start. What began before goes on, such as the three minutes without MongoDB."""

EARLY_SHARE = 4
"""The three minutes without MongoDB begin among the first quarter of all faults, so that the others
strike meanwhile instead of waiting for their end."""


@dataclass(frozen=True)
class Fault:
    """One thing that is to be done."""

    at: float
    """Seconds after the beginning of the run."""
    kind: Kind
    slot: int | None = None
    """Which pod it is done to; None where it is done to none of them."""

    @property
    def concerns_part(self) -> bool:
        """Whether it is done to Kafka, MongoDB or a disk, not to a process of Waybill."""
        return self.kind in PART_FAULTS


@dataclass(frozen=True)
class Hit:
    """A fault that was carried out."""

    kind: Kind
    pod: str | None
    begin: datetime
    end: datetime
    """When the pod or the part was itself again."""

    def explains(self, since: datetime, until: datetime) -> bool:
        """Whether something that happened between these moments may come from it."""
        return self.begin <= until and since <= self.end + AFTERMATH


def make_schedule(
    seed: int | str, kinds: Sequence[Kind], *, slots: int, gap: tuple[float, float]
) -> tuple[Fault, ...]:
    """These faults in an order, at times and on pods that follow from the seed.

    Args:
        slots: pods at the beginning.
        gap: seconds between two faults, shortest and longest; more where no pod has recovered.
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
            # These wait for one another; the others need not wait for them.
            when = max(at, mongodb_well_from)
            mongodb_well_from = when + RECOVERY[kind]
        faults.append(Fault(round(when, 2), kind, slot))
        if kind in LONG_OUTAGES:
            at = broker_well_from
    return tuple(sorted(faults, key=lambda fault: fault.at))


def seconds_without_mongodb_alone(schedule: Sequence[Fault]) -> float:
    """How long MongoDB is away while Kafka is well."""
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
