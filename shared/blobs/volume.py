"""The directory of a blob store, and whether it still is the one that it was.

Where a volume is unmounted while a process runs, its mount point is an empty directory of another
disk: uploads would go there unseen, and every stored file would seem to be gone for good. The two
directories have different inode numbers. The number of the device is not compared: a network file
system that is mounted again may have another one.
"""

import errno
import os


class Volume:
    """A directory that must stay the same. Its methods wait for the disk."""

    def __init__(self, root: str, *, inode: int | None = None) -> None:
        """Args:
        root: its path; it is created if it is not there and `inode` is not given.
        inode: the number that it had when the store was opened; by default the present one.
        """
        self.root = root
        if inode is None:
            os.makedirs(root, exist_ok=True)  # noqa: PTH103
            inode = os.stat(root).st_ino  # noqa: PTH116
        self.inode = inode

    @property
    def is_lost(self) -> bool:
        """Whether the path leads to nothing, or to another directory.

        Raises:
            OSError: that cannot be told.
        """
        try:
            # pathlib takes longer than the look.
            return os.stat(self.root).st_ino != self.inode  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return True

    def check(self) -> None:
        """Raises:
        OSError: ENODEV, if it is lost.
        """
        if self.is_lost:
            raise OSError(errno.ENODEV, "it is another directory than at the start", self.root)
