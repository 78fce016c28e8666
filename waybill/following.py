"""Following files over a stream that breaks: what the clients have in common, without any I/O."""

import json
import random
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

RECONNECT_DELAYS = (0.5, 1.0, 2.0, 5.0)
"""Seconds before a broken stream is opened again, at most; the last one repeats."""

TRIES, TRIES_AGAIN = 5, 80
"""How often in a row nobody may answer: where nobody ever has, some ten seconds, since the address
may be wrong; in place of a stream that broke, some five minutes, in which a pod comes back."""

SILENCE = 60.0
"""Seconds without even a heartbeat after which a stream counts as broken."""

MAX_KNOWN = 10_000
"""Files whose last position is known, to tell no state twice."""

Status = dict[str, Any]


class Following:
    """One subscription, over as many connections as it takes."""

    def __init__(
        self,
        file_ids: Iterable[str] = (),
        *,
        owner: str | None = None,
        batch_id: str | None = None,
        label: str | None = None,
        status: str | None = None,
    ) -> None:
        wanted = {
            "ids": ",".join(file_ids) or None,
            "owner": owner,
            "batch_id": batch_id,
            "label": label,
            "status": status,
        }
        self._wanted = {name: value for name, value in wanted.items() if value is not None}
        self._cursor: str | None = None
        self._rest = b""
        self._known: OrderedDict[str, tuple[list[int], tuple[str, str | None]]] = OrderedDict()
        self._failures = 0
        self._was_open = False

    def parameters(self) -> dict[str, str]:
        """What the next connection asks for: to go on where the last one broke."""
        self._rest = b""
        return self._wanted | ({"cursor": self._cursor} if self._cursor else {})

    def take(self, chunk: bytes) -> list[Status]:
        """Read a piece of the stream; returns the states in it that are news."""
        self._failures, self._was_open = 0, True
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        return [status for event in events if (status := self._read(event)) is not None]

    def broke(self) -> float:
        """The seconds to wait before the next connection."""
        longest = RECONNECT_DELAYS[min(self._failures, len(RECONNECT_DELAYS) - 1)]
        self._failures += 1
        # Not all at the same moment: many may have lost the same pod.
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    @property
    def is_hopeless(self) -> bool:
        """Whether nobody has answered for so many tries that nobody will."""
        return self._failures >= (TRIES_AGAIN if self._was_open else TRIES)

    def _read(self, event: bytes) -> Status | None:
        fields = dict(
            line.split(b": ", 1) for line in event.split(b"\n") if b": " in line.lstrip(b":")
        )
        if b"id" in fields:
            self._cursor = fields[b"id"].decode()
        if b"data" not in fields:
            return None  # A heartbeat.
        document: Status = json.loads(fields[b"data"])
        if b"event" in fields:
            if fields[b"event"] == b"withdrawn":  # Should it be shared again, that is news.
                self._known.pop(document["file_id"], None)
            return None  # A message about the stream itself.
        return document if self._is_news(document) else None

    def _is_news(self, document: Status) -> bool:
        """A state that came before the break may come once more after it."""
        position = document["position"]
        told = (position, (document["phase"], document["deleted_at"]))
        known = self._known.get(document["file_id"])
        if known is not None and (told == known or position < known[0]):
            return False
        self._known[document["file_id"]] = told
        self._known.move_to_end(document["file_id"])
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True
