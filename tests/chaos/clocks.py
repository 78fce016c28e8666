"""Wrong clocks: libfaketime, put before the C library of one process and its children."""

from datetime import timedelta
from pathlib import Path

PATTERN = "usr/lib/*/faketime/libfaketimeMT.so.1"
"""Where Debian's package `faketime` puts the library."""


def library() -> Path | None:
    """The library, or None where it is not installed."""
    return next(iter(sorted(Path("/").glob(PATTERN))), None)


def environment(skew: timedelta) -> dict[str, str]:
    """Environment variables of a process whose clock is so far ahead; behind if negative.

    The monotonic clock stays right, and so do the times of files.

    Raises:
        FileNotFoundError: the library is not installed.
    """
    found = library()
    if found is None:
        raise FileNotFoundError("no libfaketime; on Debian: apt-get install faketime")
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME": f"{skew.total_seconds():+.0f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "NO_FAKE_STAT": "1",
    }
