"""Landlock: restrict file access of this process to the paths in its rules (landlock(7)).

Rules grant rights on whole directory trees. They can be tightened later but never relaxed, and all
child processes inherit them. Files that are already open stay usable.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

from services.processor.isolation.kernel import IS_LINUX, check, libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System call numbers, the same on every architecture."""

_VERSION_FLAG = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
_ALL_OF_ABI_1 = (1 << 13) - 1
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in (13, 14, 15))
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11

READ = EXECUTE | READ_FILE | READ_DIR
CHANGE = (_ALL_OF_ABI_1 | REFER | TRUNCATE) & ~(_MAKE_CHAR | _MAKE_BLOCK)
"""Read, execute, write, create and remove, except device files."""
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV | TRUNCATE

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that a rule for a single file may grant."""

_BIND_AND_CONNECT_TCP = 3
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

ABI_TRUNCATE, ABI_NETWORK, ABI_IOCTL, ABI_SCOPES = 3, 4, 5, 6
"""Versions from which the kernel restricts `truncate`, TCP, device `ioctl`s, and signals and
abstract sockets."""


def abi() -> int:
    """Return the Landlock version of this kernel; 0 if it has none."""
    if not IS_LINUX:
        return 0
    return max(0, int(libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def handled(version: int) -> int:
    """Return the file rights that this Landlock version restricts."""
    rights = _ALL_OF_ABI_1
    for since, right in ((2, REFER), (ABI_TRUNCATE, TRUNCATE), (ABI_IOCTL, IOCTL_DEV)):
        if version >= since:
            rights |= right
    return rights


def restrict(rules: Iterable[tuple[str, int]], *, network: bool) -> None:
    """Restrict this process and its children permanently to these paths and rights.

    Paths that do not exist are skipped.

    Args:
        network: True if TCP stays allowed.

    Raises:
        OSError: the kernel has no Landlock, or rejects a rule.
    """
    version = abi()
    rights = handled(version)
    tcp = 0 if network or version < ABI_NETWORK else _BIND_AND_CONNECT_TCP
    scopes = (_ABSTRACT_SOCKETS | _SIGNALS) if version >= ABI_SCOPES else 0
    known = struct.pack("=QQQ", rights, tcp, scopes)
    size = 8 if version < ABI_NETWORK else 16 if version < ABI_SCOPES else 24
    ruleset = check(
        libc().syscall(_CREATE_RULESET, ctypes.c_char_p(known), ctypes.c_size_t(size), 0),
        "landlock_create_ruleset",
    )
    try:
        for path, granted in rules:
            _add(ruleset, path, granted & rights)
        check(libc().syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return  # A path that this user cannot reach needs no rule.
    try:
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")  # noqa: PTH112
        attributes = struct.pack("=Qi", rights if is_folder else rights & _OF_FILES, descriptor)
        check(
            libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(attributes), 0),
            f"landlock_add_rule {path}",
        )
    finally:
        os.close(descriptor)
