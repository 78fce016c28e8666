"""A small temporary file system that a test can fill up."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    """A folder with little space."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Fill the disk completely, again if space was freed since."""
        with suppress(OSError), (self.path / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def clear(self) -> None:
        """Free the space that `fill` has taken."""
        (self.path / "filler").unlink()

    def enlarge(self, size: int) -> None:
        """Resize the file system to a number of bytes."""
        assert _mount("-o", f"remount,size={size}", self.path)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """Create a disk of a number of bytes; skip the test if mounting is not permitted."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(path, size))
        except PermissionError as error:
            pytest.skip(str(error))
        yield disk


@contextmanager
def mounted(path: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a disk of a number of bytes for the block.

    Raises:
        PermissionError: the process may not mount a file system.
    """
    path.mkdir(parents=True)
    if not _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", path):
        path.rmdir()
        raise PermissionError("only root may mount a small file system")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def _mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
