"""Monitor the free space on the scratch disk.

A full disk often shows up as something else: a library reports a damaged document, or a program
truncates its output without an error. The pod therefore checks the disk itself, starts nothing
while it is full, and remembers when it was full.
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
"""Free bytes below which the disk counts as full, or this share of the disk if that is less.
Typical temporary files of an attempt are larger."""

EMPTY, EMPTY_SHARE = 64 << 10, 1 / 100
"""The same, for a disk on which not even small files can be written."""

CHECK_INTERVAL = 0.25
"""Seconds between two checks of a few microseconds; temporary files come and go quickly."""

CHECK_VALID_FOR = 0.01
"""Seconds for which a check stays valid."""

WRITE_TEST_EVERY = 8
"""Every n-th check also writes a file, the only way to detect a quota."""


class ScratchSpace:
    """The free space in the directory for temporary files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._full_at = self._empty_at = float("-inf")
        self._checked_at = float("-inf")
        self._refused: int | None = None
        """The errno with which the disk refused a file."""
        self.unavailable_reason: str | None = None
        """Why no work can start; None if it can."""
        self.free = 0
        """Bytes."""
        self.total = 0
        """Bytes of the whole disk."""
        self.on_space: Callable[[], None] = lambda: None
        """Called when there is free space again."""
        self.on_full: Callable[[], None] = lambda: None
        """Called every few seconds while the disk is full, to remove what can be spared."""
        self.check()

    def check(self, *, thoroughly: bool = False) -> None:
        """Check the free space now.

        Args:
            thoroughly: also write a file, since a quota may refuse what the disk could hold.
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
        self._checked_at = now = time.monotonic()
        is_empty = no_names or bool(self._refused)
        if is_empty or self.free < min(EMPTY, self.total * EMPTY_SHARE):
            self._empty_at = now
        if is_empty or self.free < min(LOW, self.total * LOW_SHARE):
            self._full_at = now
        self._change(is_full=self._full_at == now)

    def check_if_stale(self) -> None:
        """Check unless a check was just made: thousands of short files may end in a second."""
        if time.monotonic() - self._checked_at > CHECK_VALID_FOR:
            self.check()

    def _write_a_file(self) -> None:
        path = self._folder / "room"
        try:
            write_file(path, bytes(int(min(EMPTY, self.total * EMPTY_SHARE))))
        finally:
            path.unlink(missing_ok=True)

    def _change(self, *, is_full: bool) -> None:
        SCRATCH_FREE.set(self.free)
        SCRATCH_FULL.set(is_full)
        was_full = self.unavailable_reason is not None
        self.unavailable_reason = self._describe() if is_full else None
        if is_full and not was_full:
            log.error("%s; no new work starts until space is free", self.unavailable_reason)
        elif was_full and not is_full:
            log.warning("the scratch disk has free space again: %d MiB", self.free >> 20)
            self.on_space()

    def _describe(self) -> str:
        why = f"{self.free >> 10} KiB of {self.total >> 10} KiB are free"
        if self._refused is not None:
            why = os.strerror(self._refused)
        return f"the scratch disk ({self._folder}) cannot be used: {why}"

    def was_full_since(self, moment: float) -> bool:
        """Return True if a check since then found the disk full.

        Args:
            moment: a time of `time.monotonic`.
        """
        return self._full_at >= moment

    def was_empty_since(self, moment: float) -> bool:
        """Return True if since then not even a small file could be written."""
        return self._empty_at >= moment

    async def watch(self, loop: RunningLoop) -> None:
        """Check repeatedly until cancelled."""
        checks = 0
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            checks += 1
            self.check(thoroughly=checks % WRITE_TEST_EVERY == 0)
            loop.succeeded()
            if self.unavailable_reason is not None and checks % WRITE_TEST_EVERY == 0:
                self.on_full()
