"""Detection of an unmounted blob store directory.

If a volume is unmounted while a process runs, its mount point is an empty directory on another
disk. Uploads would be written there unnoticed, and all stored files would appear to be deleted. The
two directories have different inode numbers. Device numbers are not compared, because a remounted
network file system may get another one.
"""

import errno
import os


class Volume:
    """A directory that must not be replaced. Its methods block on disk I/O."""

    def __init__(self, root: str, *, inode: int | None = None) -> None:
        """Remember a directory.

        Args:
            root: path of the directory, which is created unless `inode` is given.
            inode: inode number of the directory when the store was opened; by default the current
                one.
        """
        self.root = root
        if inode is None:
            os.makedirs(root, exist_ok=True)  # noqa: PTH103
            inode = os.stat(root).st_ino  # noqa: PTH116
        self.inode = inode

    @property
    def is_lost(self) -> bool:
        """Return True if the path does not exist or is another directory.

        Raises:
            OSError: the path cannot be examined.
        """
        try:
            # pathlib takes longer than the system call.
            return os.stat(self.root).st_ino != self.inode  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return True

    def check(self) -> None:
        """Check that the directory is still the original one.

        Raises:
            OSError: ENODEV, if the directory is lost.
        """
        if self.is_lost:
            raise OSError(errno.ENODEV, "the directory was replaced", self.root)
