"""Follow files over a stream that may break. Shared by both clients; does no I/O."""

import json
import random
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

RECONNECT_DELAYS = (0.5, 1.0, 2.0, 5.0)
"""Maximum seconds before each reconnection; the last one repeats."""

FIRST_ATTEMPTS, RECONNECT_ATTEMPTS = 5, 80
"""Maximum consecutive failed connections: about ten seconds before the first answer, because the
URL may be wrong, and about five minutes after a stream broke, while a pod restarts."""

SILENCE = 60.0
"""Seconds without data or heartbeat after which a stream counts as broken."""

MAX_KNOWN = 10_000
"""Maximum files whose last position is remembered to drop duplicate updates."""

Status = dict[str, Any]


class Following:
    """One subscription across any number of connections."""

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
        self._buffer = b""
        self._known: OrderedDict[str, tuple[list[int], tuple[str, str | None]]] = OrderedDict()
        self._failures = 0
        self._was_open = False

    def parameters(self) -> dict[str, str]:
        """Return the query parameters for the next connection, which resumes at the cursor."""
        self._buffer = b""
        return self._wanted | ({"cursor": self._cursor} if self._cursor else {})

    def feed(self, chunk: bytes) -> list[Status]:
        """Parse a piece of the stream and return the new statuses in it."""
        self._failures, self._was_open = 0, True
        *events, self._buffer = (self._buffer + chunk).split(b"\n\n")
        return [status for event in events if (status := self._read(event)) is not None]

    def next_delay(self) -> float:
        """Count a failed connection and return the seconds to wait before the next one."""
        longest = RECONNECT_DELAYS[min(self._failures, len(RECONNECT_DELAYS) - 1)]
        self._failures += 1
        # Jitter, because many clients may have lost the same pod.
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    @property
    def should_give_up(self) -> bool:
        """True once too many consecutive connections failed."""
        return self._failures >= (RECONNECT_ATTEMPTS if self._was_open else FIRST_ATTEMPTS)

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
            if fields[b"event"] == b"withdrawn":  # If it is shared again, that is new.
                self._known.pop(document["file_id"], None)
            return None  # A message about the stream itself.
        return document if self._is_new(document) else None

    def _is_new(self, document: Status) -> bool:
        """Return True unless the status was already received before a reconnection."""
        position = document["position"]
        state = (position, (document["phase"], document["deleted_at"]))
        known = self._known.get(document["file_id"])
        if known is not None and (state == known or position < known[0]):
            return False
        self._known[document["file_id"]] = state
        self._known.move_to_end(document["file_id"])
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True
