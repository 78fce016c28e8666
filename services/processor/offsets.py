"""Track which records of a partition are open and finished: a pure structure, no clock, no I/O.

A pod processes many records of a partition at once and finishes them in any order, but Kafka stores
one committed offset per partition. The pod therefore commits the low watermark: the offset of the
first unfinished record. The commit's metadata carries a ledger of the unfinished records above the
watermark and of those that were started. A pod that takes over skips finished records and detects
interrupted attempts. Confluent's Parallel Consumer stores finished offsets in the same way.

The ledger lists open records instead of finished ones because the window limits how many are open.
Behind one slow record, any number may be finished.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise, takewhile
from typing import NamedTuple

MAX_LEDGER = 4096
"""Bytes of metadata on one commit: the broker's default for `offset.metadata.max.bytes`."""

MAX_BEGUN = 250
"""Started records in one ledger: that many fit, with offsets and counts of four digits. A pod
starts far fewer at a time. Records beyond the limit are treated as not started."""


SUSPICIOUS = 2
"""Number of pod deaths on one record from which on they count as evidence against it."""


class Begun(NamedTuple):
    """The attempts started for one record."""

    attempts: int = 0
    """Attempts started, whatever their outcome."""
    returned: int = 0
    """Attempts that a pod released in an orderly way; they do not count against the file."""
    interrupted: bool = False
    """True if the last attempt was running when its pod was last heard from."""

    @property
    def deaths(self) -> int:
        """Number of pods that died while processing the record, if none processes it now."""
        return max(0, self.attempts - self.returned)

    def forgiven(self, *, many_suspects: bool) -> int:
        """Return how many of those deaths do not count as attempts.

        The first death is forgiven, because other files were in progress as well. It makes the
        record a suspect, and a pod works on one suspect at a time. A second death is evidence, and
        the first one then counts too. A file that kills its pods therefore fails after as many
        deaths as it has attempts.

        Args:
            many_suspects: True if pods also died repeatedly on other records. Then an external
                cause is likely, and the first death stays forgiven.
        """
        if self.deaths < SUSPICIOUS:
            return self.deaths
        return 1 if many_suspects else 0


@dataclass
class PartitionWindow:
    """The records of one partition that are in flight in this pod."""

    next: int
    """The first offset not yet accepted."""
    in_flight: dict[int, None] = field(default_factory=dict)
    """Unfinished offsets below `next`, in ascending order."""
    begun: dict[int, Begun] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    _top: int = 0
    """One more than the highest offset finished by this pod or in the ledger that it loaded."""
    _left_open: frozenset[int] = frozenset()
    """Offsets below `_top` that the loaded ledger lists as unfinished."""

    @property
    def watermark(self) -> int:
        """The offset to commit: every record below it is finished."""
        return next(iter(self.in_flight), self.next)

    def accept(self, offset: int) -> bool:
        """Accept a record. Return False if it was accepted or finished before."""
        if offset < self.next:
            return False
        self.next = offset + 1
        if offset < self._top and offset not in self._left_open:
            return False
        self.in_flight[offset] = None
        return True

    def begin(self, offset: int) -> Begun:
        """Count a new attempt at a record, and return the earlier ones."""
        before = self.begun.get(offset, Begun())
        self.begun[offset] = Begun(before.attempts + 1, before.returned)
        self.running.add(offset)
        return before

    def finish(self, offset: int) -> None:
        """Mark a record as finished: its outcome is acknowledged."""
        self.in_flight.pop(offset, None)
        self.running.discard(offset)
        self.begun.pop(offset, None)
        self._top = max(self._top, offset + 1)

    def ledger(self, *, returning: bool = False) -> str:
        """Return the metadata for the commit, or "" if there is nothing to record.

        Args:
            returning: True if the pod may lose the partition in an orderly way; running attempts
                are then recorded as released.
        """
        base = self.watermark
        entries: dict[str, object] = {}
        if self.begun:
            begun = self._begun_entries(base, returning=returning)
            entries["b"] = list(islice(begun, MAX_BEGUN))
        if self._top > base:
            finished = {"t": self._top - base, "o": _pack(base, self._open())}
            text = _dump(entries | finished)
            if len(text) <= MAX_LEDGER:
                return text
            # Dropping this part may repeat work, but loses none.
        return _dump(entries) if entries else ""

    @classmethod
    def restore(cls, committed: int, ledger: str) -> "PartitionWindow":
        """Restore a window from a committed offset and its ledger."""
        try:
            entries = json.loads(ledger) if ledger else {}
            window = cls(
                next=committed,
                _top=committed + entries.get("t", 0),
                _left_open=frozenset(_unpack(committed, entries.get("o", ""))),
            )
            for offset, attempts, returned, interrupted in entries.get("b", ()):
                window.begun[committed + offset] = Begun(attempts, returned, bool(interrupted))
        except (ValueError, TypeError, AttributeError, IndexError):
            # Metadata of another program. Without a ledger, work may be repeated but is not lost.
            return cls(next=committed)
        return window

    def _begun_entries(self, base: int, *, returning: bool) -> Iterator[list[int]]:
        for offset, (attempts, returned, interrupted) in sorted(self.begun.items()):
            runs = offset in self.running
            released = runs and returning
            yield [
                offset - base,
                attempts,
                returned + released,
                int(runs and not released) or int(interrupted and not runs),
            ]

    def _open(self) -> Iterator[int]:
        """Yield the unfinished offsets below `_top`, in ascending order."""
        yield from takewhile(lambda offset: offset < self._top, self.in_flight)
        yield from sorted(offset for offset in self._left_open if offset >= self.next)


def _dump(entries: dict[str, object]) -> str:
    return json.dumps(entries, separators=(",", ":"))


def _pack(base: int, offsets: Iterable[int]) -> str:
    """Encode ascending offsets as gaps: base-128 varints (as in Protocol Buffers), then base64."""
    packed = bytearray()
    for before, offset in pairwise((base, *offsets)):
        gap = offset - before
        while gap > 0x7F:
            packed.append(gap & 0x7F | 0x80)
            gap >>= 7
        packed.append(gap)
    return b64encode(packed).decode()


def _unpack(base: int, text: str) -> Iterator[int]:
    gap = shift = 0
    for byte in b64decode(text, validate=True):
        gap |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            base += gap
            gap = shift = 0
            yield base
