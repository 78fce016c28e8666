"""Room on the disk for temporary files: how much there is, and when there was none.

A full disk often shows up as something else: a library reports a damaged document, or a program
writes half of its output without an error. So the pod looks at the disk itself,
begins nothing while there is no room, and remembers when that was.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from shared.background.supervision import RunningLoop
from shared.telemetry import SCRATCH_FREE, SCRATCH_FULL
from shared.writing import write_file

log = logging.getLogger(__name__)

LOW, LOW_SHARE = 16 << 20, 1 / 20
"""Free bytes below which the disk counts as full, or this share of it if that is less: usual
temporary files of an attempt are larger."""

NOTHING, NOTHING_SHARE = 64 << 10, 1 / 100
"""The same, below which not even small files can be written."""

LOOK_EVERY = 0.25
"""Seconds between two looks, each a few microseconds: temporary files come and go."""

GLANCE_EVERY = 0.01
"""Seconds within which a look need not be repeated."""

TRY_EVERY = 8
"""Looks after which one also writes a file: quotas show in no other way."""


class ScratchSpace:
    """The room in the directory for temporary files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._full_at = self._empty_at = float("-inf")
        self._looked_at = float("-inf")
        self._refused: int | None = None
        """Number of the error with which the disk refused a file."""
        self.trouble: str | None = None
        """Why nothing can be begun now; None if it can."""
        self.free = 0
        """Bytes."""
        self.total = 0
        """Bytes of the whole disk."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when there is room again."""
        self.on_full: Callable[[], None] = lambda: None
        """Called while there is none, every few seconds: what can be spared should be removed."""
        self.look()

    def look(self, *, thoroughly: bool = False) -> None:
        """Take note of the room that there is now.

        Args:
            thoroughly: also write a file; a quota may refuse what the disk has room for.
        """
        try:
            disk = os.statvfs(self._folder)
            self.free, self.total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
            if thoroughly:
                self._refused = None
                self._write_a_file()
            no_names = disk.f_files > 0 and disk.f_favail == 0
        except OSError as error:
            self._refused, no_names = error.errno, False
        self._looked_at = now = time.monotonic()
        is_empty = no_names or bool(self._refused)
        if is_empty or self.free < min(NOTHING, self.total * NOTHING_SHARE):
            self._empty_at = now
        if is_empty or self.free < min(LOW, self.total * LOW_SHARE):
            self._full_at = now
        self._change(is_full=self._full_at == now)

    def glance(self) -> None:
        """Look, unless that was done just now: thousands of short files may end in a second."""
        if time.monotonic() - self._looked_at > GLANCE_EVERY:
            self.look()

    def _write_a_file(self) -> None:
        path = self._folder / "room"
        try:
            write_file(path, bytes(int(min(NOTHING, self.total * NOTHING_SHARE))))
        finally:
            path.unlink(missing_ok=True)

    def _change(self, *, is_full: bool) -> None:
        SCRATCH_FREE.set(self.free)
        SCRATCH_FULL.set(is_full)
        was_full, self.trouble = self.trouble is not None, self._trouble() if is_full else None
        if is_full and not was_full:
            log.error("%s; no new work is begun until there is room", self.trouble)
        elif was_full and not is_full:
            log.warning("the scratch disk has room again: %d MiB", self.free >> 20)
            self.on_room()

    def _trouble(self) -> str:
        why = f"{self.free >> 10} KiB of {self.total >> 10} KiB are free"
        if self._refused is not None:
            why = os.strerror(self._refused)
        return f"the scratch disk ({self._folder}) cannot be used: {why}"

    def was_full_since(self, moment: float) -> bool:
        """True if the disk was full at a look since then.

        Args:
            moment: of `time.monotonic`.
        """
        return self._full_at >= moment

    def was_empty_since(self, moment: float) -> bool:
        """True if, since then, there was no room for even a small file."""
        return self._empty_at >= moment

    async def watch(self, loop: RunningLoop) -> None:
        """Look until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_EVERY)
            looks += 1
            self.look(thoroughly=looks % TRY_EVERY == 0)
            loop.succeeded()
            if self.trouble is not None and looks % TRY_EVERY == 0:
                self.on_full()
