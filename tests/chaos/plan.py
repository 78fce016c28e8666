"""The uploads of a run and their expected outcomes: a pure function of the seed."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from services.status.projection.projection import FileState
from shared.events.topics import LIFECYCLE, UPLOADED, Topic
from shared.settings import DEMO_TYPE
from tests.chaos.poison import NO_JSON, POISONS
from tests.support.poison import HARMLESS, RESULTS

MAX_ATTEMPTS = 5
"""Attempts at a file: more than the faults that can hit one file of the short run, so that none
fails because of faults in its pods."""

TIME_LIMIT = 3.0
"""Seconds of an attempt. The machine may be busy, so only files that hang or exhaust memory may
take more than 40 % of it."""

MEMORY_LIMIT = 256 * 1024**2
"""Bytes that a worker may use: enough for any demo file that does not exhaust memory."""

LENGTHS = ((0.0, 0.0), (0.01, 0.1), (0.1, 0.5), (0.5, 1.2))
"""Shortest and longest seconds of work per kind of file; all kinds are equally frequent."""

ENDS = {
    "complete": 79,
    "fail": 6,
    "retry": 8,
    "crash": 2,
    "segfault": 1,
    "hang": 1,
    "memory": 3,
}
"""How files end, and in which percentage."""

TEXT_LENGTHS = (1_000, 400_000)
"""Characters of a text, fewest and most: some pass through memory only, most through files."""

WORDS = ("freight", "harbor", "ledger", "manifest", "pallet", "quay", "seal", "tariff", "yard")

GROUPS = 8
"""Labels among which the files are distributed, so that a watcher can follow a subset."""

EARLY = ("crash", "hang")
"""Ends that use up all attempts. These files are uploaded in the first third, so that the run does
not have to wait for them."""


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """One file to upload, and its expected outcome."""

    number: int
    at: float
    """Seconds after the start of the run."""
    spec: dict[str, Any]
    """The demo file; empty for a text or a script."""
    status: FileState
    codes: frozenset[str] = frozenset()
    """Error codes with which its attempts may fail without any fault."""
    attempts: int = 1
    """Attempts that it takes without any fault."""
    text: int = 0
    """Characters of a plain text uploaded instead of a demo file; 0 for none."""
    script: str = ""
    """Script for the plugin of `tests/support/poison.py`, uploaded instead of a demo file."""

    @property
    def group(self) -> str:
        """The value of its label `group`."""
        return str(self.number % GROUPS)

    @property
    def name(self) -> str:
        kind = "txt" if self.text else "poison" if self.script else "json"
        return f"{self.number}.{kind}"

    @property
    def content_type(self) -> str:
        return "text/plain" if self.text or self.script else DEMO_TYPE

    @property
    def content(self) -> bytes:
        """The bytes to upload."""
        if self.script:
            return self.script.encode()
        if not self.text:
            return json.dumps(self.spec).encode()
        chance = random.Random(f"text {self.number}")
        words = " ".join(chance.choices(WORDS, k=self.text // 4))
        return words[: self.text - 1].encode() + b"."

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content."""
        return sha256(self.content).hexdigest()


@dataclass(frozen=True)
class PlannedPoison:
    """A record that cannot be read or stored."""

    at: float
    """Seconds after the start of the run."""
    topic: Topic
    what: str
    """A key of `POISONS`."""
    strikes_file: bool = False
    """True if it refers to the last uploaded file instead of a file of its own."""


@dataclass(frozen=True)
class Plan:
    """Everything that is fed into a run."""

    files: tuple[PlannedFile, ...]
    poison: tuple[PlannedPoison, ...]


def make_plan(
    seed: int, *, files: int, seconds: float, texts: int = 0, scripts: int = 0, poison: int = 0
) -> Plan:
    """Plan files of mixed durations and outcomes.

    Args:
        files: number of files, at least 100.
        seconds: time over which they are distributed.
        texts: percentage of files that are plain texts.
        scripts: percentage of files whose results are unusual or cannot be stored.
        poison: number of records that cannot be stored, among the outcomes.
    """
    chance = random.Random(f"plan {seed}")
    ends = [end for end, share in ENDS.items() for _ in range(max(1, files * share // 100))]
    ends += ["complete"] * (files - len(ends))
    others = {"text": texts, "script": scripts, "complete": ENDS["complete"] - texts - scripts}
    ends = [
        chance.choices([*others], [*others.values()])[0] if end == "complete" else end
        for end in ends
    ]
    chance.shuffle(ends)
    times = [chance.uniform(0, seconds / 3 if end in EARLY else seconds) for end in ends]
    coming = sorted(zip(times, ends, strict=True))
    return Plan(
        files=tuple(_file(number, at, end, chance) for number, (at, end) in enumerate(coming)),
        poison=(
            *_uploads_that_are_none(chance, max(2, files // 100), seconds),
            *_outcomes_that_are_none(chance, poison, seconds),
        ),
    )


def _uploads_that_are_none(
    chance: random.Random, count: int, seconds: float
) -> Iterator[PlannedPoison]:
    """Plan records with distinct keys: compaction would otherwise remove a file's upload."""
    for _ in range(count):
        yield PlannedPoison(chance.uniform(0, seconds), UPLOADED, NO_JSON)


def _outcomes_that_are_none(
    chance: random.Random, count: int, seconds: float
) -> Iterator[PlannedPoison]:
    for turn in range(count):
        what = sorted(POISONS)[turn % len(POISONS)]
        at, strikes_file = chance.uniform(0, seconds), chance.random() < 0.5
        yield PlannedPoison(at, LIFECYCLE, what, strikes_file)


def _file(number: int, at: float, end: str, chance: random.Random) -> PlannedFile:
    if end == "text":
        length = chance.randint(*TEXT_LENGTHS)
        return PlannedFile(number=number, at=at, spec={}, status=FileState.COMPLETED, text=length)
    if end == "script":
        return _script(number, at, chance)
    spec: dict[str, Any] = {
        "seconds": round(chance.uniform(*chance.choice(LENGTHS)), 3),
        "steps": chance.choice((1, 4)),
        "then": end,
    }
    match end:
        case "complete":
            status, codes, attempts = FileState.COMPLETED, set[str](), 1
        case "fail":
            status, codes, attempts = FileState.FAILED, {"demo_failed"}, 1
        case "retry":
            spec["until"] = attempts = chance.choice((2, 3))
            status, codes = FileState.COMPLETED, {"demo_retry"}
        case "crash":
            status, codes, attempts = FileState.FAILED, {"worker_crashed"}, MAX_ATTEMPTS
        case "segfault":
            codes, attempts = {"segmentation_fault", "document_crashes_reader"}, 2
            status = FileState.FAILED
        case "hang":
            spec["seconds"] = 0.0
            status, codes, attempts = FileState.FAILED, {"timed_out"}, MAX_ATTEMPTS
        case "memory":
            # Exhausting memory takes a while, on a busy machine up to the time limit.
            spec["seconds"] = 0.0
            status, codes, attempts = FileState.FAILED, {"out_of_memory", "timed_out"}, 1
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


def _script(number: int, at: float, chance: random.Random) -> PlannedFile:
    script = chance.choice([*RESULTS, *HARMLESS])
    if script in HARMLESS:
        return PlannedFile(number=number, at=at, spec={}, status=FileState.COMPLETED, script=script)
    code = RESULTS[script]
    is_transient = code == "step_failed" or "TransientError" in script
    return PlannedFile(
        number=number,
        at=at,
        spec={},
        status=FileState.FAILED,
        codes=frozenset({code}),
        attempts=MAX_ATTEMPTS if is_transient else 1,
        script=script,
    )
