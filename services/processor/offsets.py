"""Which records of a partition are taken, begun and finished: a pure structure, no clock, no I/O.

A pod works on many records of a partition at once and finishes them in any order, while Kafka
keeps one committed offset a partition. So the commit is the low watermark, the first record that
is not finished, and a ledger rides on its metadata: what above the watermark is *not* finished, and
what was begun. A pod that takes over skips the rest and knows the begun ones for attempts that were
cut off. Confluent's parallel consumer keeps its finished offsets the same way.

The ledger names the open records instead of the finished ones, because a window bounds how many
are open: one slow record may have any number of finished ones behind it.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise, takewhile
from typing import NamedTuple

MAX_LEDGER = 4096
"""Bytes of metadata on one commit: the broker's default `offset.metadata.max.bytes`."""

MAX_BEGUN = 250
"""Records in one ledger that were begun: with offsets and counts of four digits they still fit. A
pod begins far fewer at a time; those beyond are taken for not begun."""


SUSPICIOUS = 2
"""Deaths of pods over a record from which on they say something of it."""


class Begun(NamedTuple):
    """How often work on a record was begun."""

    attempts: int = 0
    """Attempts begun, whatever became of them."""
    returned: int = 0
    """Those of them that a pod gave back in good order; they say nothing against the file."""
    cut_off: bool = False
    """The last attempt was under way when its pod was last heard of."""

    @property
    def deaths(self) -> int:
        """How often a pod died while it worked on the record, if nobody works on it now."""
        return max(0, self.attempts - self.returned)

    def forgiven(self, *, many_suspects: bool) -> int:
        """Return how many of those deaths do not count as attempts at the file.

        The first one does not: other files were under way as well. It makes the record a suspect,
        and a pod works on one suspect at a time. A second death is evidence, and makes the first
        one count too, so that a file that kills each of its pods fails after as many deaths as it
        may have attempts.

        Args:
            many_suspects: whether pods also died again over other records. Then somebody kills
                pods, and the first death stays forgiven.
        """
        if self.deaths < SUSPICIOUS:
            return self.deaths
        return 1 if many_suspects else 0


@dataclass
class PartitionWindow:
    """The records of one partition that this pod has in its hands."""

    next: int
    """The first offset not yet taken."""
    in_flight: dict[int, None] = field(default_factory=dict)
    """Offsets taken and not finished, in rising order."""
    begun: dict[int, Begun] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    _top: int = 0
    """One more than the highest finished offset, by this pod or by the ledger that it found."""
    _left_open: frozenset[int] = frozenset()
    """Offsets below `_top` that the ledger found here names as not finished."""

    @property
    def watermark(self) -> int:
        """The offset to commit: everything below it is finished."""
        return next(iter(self.in_flight), self.next)

    def take(self, offset: int) -> bool:
        """Take a record in. False if there is nothing to do: it was taken or finished before."""
        if offset < self.next:
            return False
        self.next = offset + 1
        if offset < self._top and offset not in self._left_open:
            return False
        self.in_flight[offset] = None
        return True

    def begin(self, offset: int) -> Begun:
        """Count one more attempt at a record; returns the earlier ones."""
        before = self.begun.get(offset, Begun())
        self.begun[offset] = Begun(before.attempts + 1, before.returned)
        self.running.add(offset)
        return before

    def finish(self, offset: int) -> None:
        """The record's outcome is acknowledged; it need not be seen again."""
        self.in_flight.pop(offset, None)
        self.running.discard(offset)
        self.begun.pop(offset, None)
        self._top = max(self._top, offset + 1)

    def ledger(self, *, returning: bool = False) -> str:
        """What rides on the commit; empty where there is nothing to tell.

        Args:
            returning: the pod may be about to lose the partition in good order, so attempts now
                running are written as given back.
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
            # Without this part work may be repeated, not lost.
        return _dump(entries) if entries else ""

    @classmethod
    def restore(cls, committed: int, ledger: str) -> "PartitionWindow":
        """The window of a pod that takes over at `committed` with the ledger found there."""
        try:
            entries = json.loads(ledger) if ledger else {}
            window = cls(
                next=committed,
                _top=committed + entries.get("t", 0),
                _left_open=frozenset(_unpack(committed, entries.get("o", ""))),
            )
            for offset, attempts, returned, cut_off in entries.get("b", ()):
                window.begun[committed + offset] = Begun(attempts, returned, bool(cut_off))
        except (ValueError, TypeError, AttributeError, IndexError):
            # Metadata that another program wrote: without a ledger work may be repeated, not lost.
            return cls(next=committed)
        return window

    def _begun_entries(self, base: int, *, returning: bool) -> Iterator[list[int]]:
        for offset, (attempts, returned, cut_off) in sorted(self.begun.items()):
            runs = offset in self.running
            given_back = runs and returning
            yield [
                offset - base,
                attempts,
                returned + given_back,
                int(runs and not given_back) or int(cut_off and not runs),
            ]

    def _open(self) -> Iterator[int]:
        """The offsets below `_top` that are not finished, in rising order."""
        yield from takewhile(lambda offset: offset < self._top, self.in_flight)
        yield from sorted(offset for offset in self._left_open if offset >= self.next)


def _dump(entries: dict[str, object]) -> str:
    return json.dumps(entries, separators=(",", ":"))


def _pack(base: int, offsets: Iterable[int]) -> str:
    """Rising offsets as their gaps, each a base-128 varint (as in Protocol Buffers), in base64."""
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
