"""File systems of a run's own for the data of Kafka, the blobs and the workers' files."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.faults import Kind
from tests.support.small_disk import SmallDisk, mounted

FOLDERS = {Kind.FILL_LOG: "kafka", Kind.FILL_BLOBS: "blobs", Kind.FILL_SCRATCH: "scratch"}
"""Which folder of a run the kind fills."""

ROOM = 512 << 20
"""Bytes of each disk: several times what a run of 2,000 files writes, and soon filled."""

TOP_UP = 0.1
"""Seconds between two looks whether something was freed on a disk that shall be full."""

Disks = Mapping[Kind, SmallDisk]


@contextmanager
def mounted_disks(folder: Path) -> Iterator[Disks]:
    """A small file system for each kind of fault that fills one.

    Raises:
        PermissionError: the process may not mount file systems.
    """
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(mounted(folder / name, ROOM))
            for kind, name in FOLDERS.items()
        }


async def keep_full(disk: SmallDisk, *, seconds: float) -> None:
    """Leave no room for so long, whatever others free meanwhile; then as much as before."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            await asyncio.to_thread(disk.fill)
            await asyncio.sleep(TOP_UP)
    finally:
        await asyncio.to_thread(disk.clear)
