"""Test the isolation of a worker on this machine in a temporary process."""

import os
import tempfile
from pathlib import Path

from services.processor.isolation.cell import Cell, Isolation
from services.processor.isolation.limits import Limits
from services.processor.isolation.rung import Layer
from shared.writing import write_all

_ANSWER = 1000
"""Bytes of the longest reply."""

_MEMORY = 1 << 30
"""Bytes; the process exits at once."""


def missing_here(isolation: Isolation, scratch: str | None = None) -> tuple[Layer, ...]:
    """Return the layers that this machine does not support. Call it before starting threads.

    Args:
        scratch: the directory for temporary files.

    Raises:
        OSError: there is no space for a worker's folders.
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
        reply = os.read(read_end, _ANSWER).decode()  # Empty if the process has died.
        os.close(read_end)
        os.waitpid(child, 0)
    if not reply.startswith("missing:"):
        return tuple(Layer)  # The process did not survive the test.
    return tuple(Layer(name) for name in reply.removeprefix("missing:").split())


def _try(cell: Cell, write_end: int) -> None:
    try:
        missing = cell.enter(Limits(memory=_MEMORY))
        write_all(write_end, f"missing:{' '.join(missing)}".encode())
    finally:
        os._exit(0)
