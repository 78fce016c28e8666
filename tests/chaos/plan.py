"""What is uploaded in a run, and what must become of it: a pure function of the seed."""

import random
from dataclasses import dataclass
from typing import Any

from services.status.projection import State

MAX_ATTEMPTS = 5
"""Attempts at a file. More than the faults that can hit one file of the short form, so that none is
given up for what was done to its pods."""

TIME_LIMIT = 3.0
"""Seconds of an attempt; only the files that hang or fill the memory may need more than 40 % of it,
since the machine may be busy."""

MEMORY_LIMIT = 256 * 1024**2
"""Bytes a worker may use: enough for any demo file but those that ask for all there is."""

LENGTHS = ((0.0, 0.0), (0.01, 0.1), (0.1, 0.5), (0.5, 1.2))
"""Seconds of work, shortest and longest, of the kinds of files; each kind is as frequent."""

ENDS = {"complete": 80, "fail": 6, "retry": 8, "crash": 2, "hang": 1, "memory": 3}
"""How files end, and how many of a hundred do."""

EARLY = ("crash", "hang")
"""Ends that take all attempts: these files come in the first third, so that nobody waits for them
when all others have ended."""


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """One file that is uploaded, and what must become of it."""

    number: int
    at: float
    """Seconds after the beginning of the run."""
    spec: dict[str, Any]
    """The demo file."""
    status: State
    codes: frozenset[str] = frozenset()
    """How its attempts may fail by themselves."""
    attempts: int = 1
    """How many it takes if nothing disturbs it."""


@dataclass(frozen=True)
class Plan:
    """All that is fed in."""

    files: tuple[PlannedFile, ...]
    unreadable: tuple[float, ...]
    """Seconds after the beginning at which a record that is no event is put among the uploads."""


def make_plan(seed: int, *, files: int, seconds: float) -> Plan:
    """Files of mixed lengths and ends.

    Args:
        files: how many; a hundred or more.
        seconds: over which they are spread.
    """
    chance = random.Random(f"plan {seed}")
    ends = [end for end, share in ENDS.items() for _ in range(max(1, files * share // 100))]
    ends += ["complete"] * (files - len(ends))
    chance.shuffle(ends)
    times = [chance.uniform(0, seconds / 3 if end in EARLY else seconds) for end in ends]
    coming = sorted(zip(times, ends, strict=True))
    return Plan(
        files=tuple(_file(number, at, end, chance) for number, (at, end) in enumerate(coming)),
        unreadable=tuple(chance.uniform(0, seconds) for _ in range(max(2, files // 100))),
    )


def _file(number: int, at: float, end: str, chance: random.Random) -> PlannedFile:
    spec: dict[str, Any] = {
        "seconds": round(chance.uniform(*chance.choice(LENGTHS)), 3),
        "steps": chance.choice((1, 4)),
        "then": end,
    }
    match end:
        case "complete":
            status, codes, attempts = State.COMPLETED, set[str](), 1
        case "fail":
            status, codes, attempts = State.FAILED, {"demo_failed"}, 1
        case "retry":
            spec["until"] = attempts = chance.choice((2, 3))
            status, codes = State.COMPLETED, {"demo_retry"}
        case "crash":
            status, codes, attempts = State.FAILED, {"worker_crashed"}, MAX_ATTEMPTS
        case "hang":
            spec["seconds"] = 0.0
            status, codes, attempts = State.FAILED, {"timed_out"}, MAX_ATTEMPTS
        case "memory":
            # To fill the memory takes a while, on a busy machine even all the time there is.
            spec["seconds"] = 0.0
            status, codes, attempts = State.FAILED, {"out_of_memory", "timed_out"}, 1
        case _:
            raise ValueError(end)
    return PlannedFile(
        number=number,
        at=at,
        spec=spec,
        status=status,
        codes=frozenset(codes),
        attempts=attempts,
    )
