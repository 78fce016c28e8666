"""Paths that a worker may read: programs, libraries and Python code, but no data of Waybill."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")

OF_ETC = tuple(
    f"/etc/{name}"
    for name in (
        *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl", "ca-certificates"),
        *("localtime", "timezone", "locale.alias", "fonts", "mime.types", "magic", "papersize"),
        *("passwd", "group", "nsswitch.conf", "hosts", "host.conf", "resolv.conf", "gai.conf"),
        *("protocols", "services", "ImageMagick-6", "ImageMagick-7", "libreoffice", "pki"),
        *("crypto-policies", "python3", "python3.11", "java-17-openjdk", "java-21-openjdk"),
    )
)
"""Configuration files that programs need; the rest of `/etc` may hold secrets."""

SYSTEM_FACTS = (
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup"),
    *("/sys/kernel/mm/transparent_hugepage",),
)
"""Numbers of processors and amounts of memory."""

PROC_FACTS = tuple(
    f"/proc/{name}"
    for name in (
        *("self", "cpuinfo", "meminfo", "stat", "filesystems", "version", "loadavg", "uptime"),
        *("sys/vm", "sys/kernel"),
    )
)
"""Paths that a worker may read if `/proc` shows processes of others."""

_CODE = frozenset({".py", ".pyc", ".so", ".zip", ".egg", ".pth", ".dist-info", ".egg-info"})


def readable_paths(hidden: Iterable[str | Path], more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the paths that workers may read, without hidden ones.

    A directory that contains a hidden path is replaced by its other entries.

    Args:
        hidden: directories and files that no worker may read: the blob store, secrets, scratch.
        more: additional paths.
    """
    secret = [os.path.realpath(each) for each in hidden]
    whole = [*PROGRAMS, *OF_ETC, *SYSTEM_FACTS, sys.prefix, sys.base_prefix, sys.exec_prefix, *more]
    found = dict.fromkeys(part for path in whole for part in _without(path, secret))
    for entry in sys.path:
        path = os.path.abspath(entry or ".")  # noqa: PTH100 - links are kept
        if any(_lies_in(path, known) for known in found):
            continue
        code = _loaded_from(path) if _is_accidental(entry) else _code_in(path)
        found |= dict.fromkeys(part for each in code for part in _without(each, secret))
    return tuple(found)


def _is_accidental(entry: str) -> bool:
    """Return True if a directory is on `sys.path` only because it is the working directory."""
    if entry and os.path.abspath(entry) != os.getcwd():  # noqa: PTH100, PTH109
        return False
    asked = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return sys.path.count(entry) == 1 and entry not in asked


def _loaded_from(folder: str) -> Iterator[str]:
    """Yield the packages and modules of a directory that this process has imported."""
    for name, module in list(sys.modules.items()):
        if "." not in name:
            places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None)]
            yield from (place for place in places if place and os.path.dirname(place) == folder)  # noqa: PTH120


def _code_in(entry: str) -> Iterator[str]:
    """Yield what Python can import from a directory, without `.env` files, keys or data in it."""
    if not os.path.isdir(entry):  # noqa: PTH112
        yield entry
        return
    for each in _entries(entry):
        name = os.path.basename(each)  # noqa: PTH119
        if _is_code(name) or (name.isidentifier() and _holds_code(each)):
            yield each


def _is_code(name: str) -> bool:
    return os.path.splitext(name)[1] in _CODE  # noqa: PTH122


def _holds_code(folder: str) -> bool:
    """Return True if a directory is a package, not data beside the code."""
    return any(
        _is_code(os.path.basename(each)) or os.path.exists(f"{each}/__init__.py")  # noqa: PTH110, PTH119
        for each in _entries(folder)
    )


def _without(path: str, secret: list[str]) -> Iterator[str]:
    real = os.path.realpath(path)
    if not os.path.exists(real) or any(_lies_in(real, each) for each in secret):  # noqa: PTH110
        return
    if not any(_lies_in(each, real) for each in secret):
        yield path
        return
    for each in _entries(path):
        yield from _without(each, secret)


def _entries(folder: str) -> list[str]:
    try:
        return sorted(entry.path for entry in os.scandir(folder))
    except OSError:
        return []  # Paths that the pod cannot read are not needed.


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
