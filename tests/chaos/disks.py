"""Separate file systems of a run for Kafka's data, the blobs and the workers' files."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.faults import Kind
from tests.support.small_disk import SmallDisk, mounted

FOLDERS = {Kind.FILL_LOG: "kafka", Kind.FILL_BLOBS: "blobs", Kind.FILL_SCRATCH: "scratch"}
"""The folder of a run that each kind fills."""

ROOM = 512 << 20
"""Bytes of each disk: several times what a run of 2,000 files writes, and quick to fill."""

TOP_UP = 0.1
"""Seconds between two checks for freed space on a disk that is to stay full."""

Disks = Mapping[Kind, SmallDisk]


@contextmanager
def mounted_disks(folder: Path) -> Iterator[Disks]:
    """Mount a small file system for each kind of fault that fills one.

    Raises:
        PermissionError: the process may not mount file systems.
    """
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(mounted(folder / name, ROOM))
            for kind, name in FOLDERS.items()
        }


async def keep_full(disk: SmallDisk, *, seconds: float) -> None:
    """Keep a disk full for some seconds whatever others free; then restore the free space."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            await asyncio.to_thread(disk.fill)
            await asyncio.sleep(TOP_UP)
    finally:
        await asyncio.to_thread(disk.clear)
