"""What is done to the pods and to the parts, and when: a pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.messaging import SESSION_TIMEOUT_MS

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
    """SIGTERM to Kafka, which then is away for a minute."""
    KILL_MONGODB = "kill-mongodb"
    KILL_STATUS = "kill-status"


POD_FAULTS = (Kind.KILL, Kind.PAUSE, Kind.DRAIN)
PART_FAULTS = (Kind.KILL_BROKER, Kind.STOP_BROKER, Kind.KILL_MONGODB)
BROKER_FAULTS = (Kind.KILL_BROKER, Kind.STOP_BROKER)

AWAY = {Kind.KILL_BROKER: 2.0, Kind.STOP_BROKER: 60.0, Kind.KILL_MONGODB: 2.0}
"""Seconds a part stays away, beside the time that it needs to end and to start."""

RECOVERY = {
    Kind.KILL: 6.0,
    Kind.PAUSE: PAUSE + 2.0,
    Kind.DRAIN: 12.0,
    Kind.ADD: 5.0,
    Kind.KILL_BROKER: AWAY[Kind.KILL_BROKER] + 30.0,
    Kind.STOP_BROKER: AWAY[Kind.STOP_BROKER] + 30.0,
}
"""Seconds after which the same is hit again at the earliest; before, there may be nothing to hit.
A pod cannot become ready, or end in good order, while Kafka is away, so the broker has longer."""


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
        """Whether it is done to Kafka or MongoDB, which are not among our own processes."""
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
    seed: int, kinds: Sequence[Kind], *, slots: int, gap: tuple[float, float]
) -> tuple[Fault, ...]:
    """These faults in an order, at times and on pods that follow from the seed.

    Args:
        slots: pods at the beginning.
        gap: seconds between two faults, shortest and longest; more where no pod has recovered.
    """
    chance = random.Random(f"faults {seed}")
    order = list(kinds)
    chance.shuffle(order)
    well_from = dict.fromkeys(range(slots), 0.0)
    broker_well_from = 0.0
    faults: list[Fault] = []
    at = 0.0
    for kind in order:
        at += chance.uniform(*gap)
        slot = None
        if kind in POD_FAULTS:
            at = max(at, min(well_from.values()))
            slot = chance.choice([each for each, well in well_from.items() if well <= at])
            well_from[slot] = at + RECOVERY[kind]
        elif kind is Kind.ADD:
            well_from[len(well_from)] = at + RECOVERY[kind]
        elif kind in BROKER_FAULTS:
            at = max(at, broker_well_from)
            broker_well_from = at + RECOVERY[kind]
        faults.append(Fault(round(at, 2), kind, slot))
        if kind is Kind.STOP_BROKER:
            at = broker_well_from  # A pod could neither end in good order meanwhile nor start.
    return tuple(faults)
