"""Which records of a partition are taken, started and finished: a pure structure, no clock, no I/O.

A pod works on many records of a partition at once and finishes them in any order, while Kafka
keeps one committed offset a partition. So the commit is the low watermark, the first record that
is not finished, and a ledger rides on its metadata: what is finished above the watermark, and what
was begun. A pod that takes over skips the former and knows the latter for attempts that were cut
off. The form follows Confluent's parallel consumer, which keeps the finished part the same way.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_LEDGER = 4096
"""Bytes of metadata on one commit: the broker's default `offset.metadata.max.bytes`."""


class Begun(NamedTuple):
    """How often work on a record was begun."""

    attempts: int = 0
    """Attempts begun, whatever became of them."""
    returned: int = 0
    """Those of them that a pod gave back in good order; they say nothing against the file."""


@dataclass
class PartitionWindow:
    """The records of one partition that this pod has in its hands."""

    next: int
    """The first offset not yet taken."""
    finished: set[int] = field(default_factory=set)
    begun: dict[int, Begun] = field(default_factory=dict)
    in_flight: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)

    @property
    def watermark(self) -> int:
        """The offset to commit: everything below it is finished."""
        return min(self.in_flight, default=self.next)

    def take(self, offset: int) -> bool:
        """Take a record in. False if there is nothing to do: it was taken or finished before."""
        if offset < self.next:
            return False
        self.next = offset + 1
        if offset in self.finished:
            self._forget_below_watermark()
            return False
        self.in_flight.add(offset)
        return True

    def begin(self, offset: int) -> Begun:
        """Count one more attempt at a record; returns the earlier ones."""
        before = self.begun.get(offset, Begun())
        self.begun[offset] = before._replace(attempts=before.attempts + 1)
        self.running.add(offset)
        return before

    def finish(self, offset: int) -> None:
        """The record's outcome is acknowledged; it need not be seen again."""
        self.in_flight.discard(offset)
        self.running.discard(offset)
        self.begun.pop(offset, None)
        self.finished.add(offset)
        self._forget_below_watermark()

    def ledger(self, *, returning: bool = False) -> str:
        """What rides on the commit.

        Args:
            returning: the pod may be about to lose the partition in good order, so attempts now
                running are written as given back.
        """
        base = self.watermark
        begun = {
            offset: count._replace(returned=count.returned + (returning and offset in self.running))
            for offset, count in self.begun.items()
        }
        return json.dumps(
            {
                "f": [[start - base, end - base] for start, end in _ranges(self.finished)],
                "b": [[offset - base, *count] for offset, count in sorted(begun.items())],
            },
            separators=(",", ":"),
        )

    @classmethod
    def restore(cls, committed: int, ledger: str) -> "PartitionWindow":
        """The window of a pod that takes over at `committed` with the ledger found there."""
        window = cls(next=committed)
        try:
            entries = json.loads(ledger) if ledger else {}
            for start, end in entries.get("f", ()):
                window.finished.update(range(committed + start, committed + end))
            for offset, attempts, returned in entries.get("b", ()):
                window.begun[committed + offset] = Begun(attempts, returned)
        except (ValueError, TypeError, AttributeError):
            # Metadata that another program wrote: without a ledger work may be repeated, not lost.
            return cls(next=committed)
        return window

    def _forget_below_watermark(self) -> None:
        watermark = self.watermark
        self.finished = {offset for offset in self.finished if offset >= watermark}


def _ranges(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Half-open ranges that cover `offsets`."""
    start = end = None
    for offset in sorted(offsets):
        if start is not None and offset == end:
            end = offset + 1
            continue
        if start is not None and end is not None:
            yield start, end
        start, end = offset, offset + 1
    if start is not None and end is not None:
        yield start, end
