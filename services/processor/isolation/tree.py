"""A root directory of the worker's own, with its folders and the paths that it may read.

All paths are mounted at their usual location. A worker that may not traverse `/root`, for example,
still finds its Python there. This requires a mount namespace (mount_namespaces(7)).
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from services.processor.isolation.kernel import MACHINE, check, libc

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _REC, _PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount of the worker's own

SHARED_MEMORY_SIZE = 64 << 20
"""Bytes: Docker's default for containers. They count as memory."""


def enter_tree(root: Path, *, readable: Iterable[str], folder: Path) -> bool:
    """Make `root` the root directory of this process. Requires a mount and a PID namespace.

    Args:
        root: an empty directory.
        readable: absolute paths to mount read-only; those that do not exist are skipped.
        folder: the worker's folder; `tmp` and `out` in it are writable, `in` is not.

    Returns:
        True if `/proc` shows only the processes of this PID namespace.

    Raises:
        OSError: the kernel rejects it; this process is unchanged.
    """
    _mount("none", "/", flags=_REC | _PRIVATE)
    _mount("tmpfs", str(root), kind="tmpfs", flags=_NOSUID | _NODEV, data="mode=755,size=4m")
    for path in sorted(set(readable)):
        _show(root, path)
    for name in ("in", "out", "tmp"):
        _show(root, str(folder / name), writable=name != "in")
    for device in DEVICES:
        _bind(device, _place(root, device))
    (root / "dev/fd").symlink_to("/proc/self/fd")
    shared = root / SHARED_MEMORY[1:]
    shared.mkdir()
    shared_options = f"mode=1777,size={SHARED_MEMORY_SIZE}"
    _mount("shm", str(shared), kind="tmpfs", flags=_NOSUID | _NODEV, data=shared_options)
    has_own_proc = _mount_proc(root / "proc")
    old = root / ".old"
    old.mkdir()
    check(libc().syscall(_PIVOT_ROOT[MACHINE], os.fsencode(root), os.fsencode(old)), "pivot_root")
    os.chdir("/")
    check(libc().umount2(b"/.old", _MNT_DETACH), "umount2")
    os.rmdir("/.old")  # noqa: PTH106
    _mount("none", "/", flags=_REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    return has_own_proc


def _show(root: Path, path: str, *, writable: bool = False) -> None:
    """Bind a path; a path that contains symbolic links becomes one link to the real path."""
    real = os.path.realpath(path)
    if not os.path.exists(real):  # noqa: PTH110
        return
    if real != path:
        link = _place(root, path)
        if not os.path.lexists(link):
            with contextlib.suppress(OSError):  # It is in a directory that is already mounted.
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(real)
    target = _place(root, real)
    if os.path.lexists(target) and not writable:
        return  # A parent directory is already mounted.
    _bind(real, target)
    attributes = _NOSUID | (0 if writable else _RDONLY)
    _set_attributes(target, attributes)


def _place(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _bind(source: str, target: Path) -> None:
    if os.path.isdir(source):  # noqa: PTH112
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(source, str(target), flags=_BIND | _REC)


def _mount_proc(target: Path) -> bool:
    target.mkdir()
    try:
        _mount("proc", str(target), kind="proc", flags=_NOSUID | _NODEV | _NOEXEC)
    except OSError:  # Containers mask parts of `/proc`, and the kernel keeps them masked.
        _mount("/proc", str(target), flags=_BIND | _REC)
        return False
    return True


def _mount(source: str, target: str, *, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = [os.fsencode(each) or None for each in (source, target, kind)]
    result = libc().mount(*texts, ctypes.c_ulong(flags), os.fsencode(data) or None)
    check(result, f"mount {target}")


def _set_attributes(target: Path, attributes: int) -> None:
    """Restrict a mount and its submounts; existing restrictions stay."""
    settings = struct.pack("=QQQQ", attributes, 0, 0, 0)
    result = libc().syscall(
        _MOUNT_SETATTR,
        _AT_FDCWD,
        os.fsencode(target),
        _AT_RECURSIVE,
        ctypes.c_char_p(settings),
        ctypes.c_size_t(len(settings)),
    )
    check(result, f"mount_setattr {target}")
