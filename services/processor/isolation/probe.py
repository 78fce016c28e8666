"""Try the isolation of a worker on this machine, in a process made for it."""

import os
import tempfile
from pathlib import Path

from services.processor.isolation.cell import Cell, Isolation
from services.processor.isolation.limits import Limits
from services.processor.isolation.rung import Layer
from shared.writing import write_all

_ANSWER = 1000
"""Bytes of the longest answer."""

_MEMORY = 1 << 30
"""Bytes: the process ends at once."""


def missing_here(isolation: Isolation, scratch: str | None = None) -> tuple[Layer, ...]:
    """Return the layers that this machine does not allow a worker; to be called without threads.

    Args:
        scratch: the directory for temporary files.

    Raises:
        OSError: there is no room for a worker's folders.
    """
    with tempfile.TemporaryDirectory(prefix="waybill-check-", dir=scratch) as parent:
        Path(parent).chmod(0o711)
        cell = isolation.cell(Path(parent) / "cell")
        cell.make_folders()
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            _try(cell, write_end)
        os.close(write_end)
        told = os.read(read_end, _ANSWER).decode()  # Or nothing, if it has ended.
        os.close(read_end)
        os.waitpid(child, 0)
    if not told.startswith("missing:"):
        return tuple(Layer)  # It did not survive the attempt.
    return tuple(Layer(name) for name in told.removeprefix("missing:").split())


def _try(cell: Cell, write_end: int) -> None:
    try:
        missing = cell.enter(Limits(memory=_MEMORY))
        write_all(write_end, f"missing:{' '.join(missing)}".encode())
    finally:
        os._exit(0)
