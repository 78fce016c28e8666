"""Wrong clocks, through a library preloaded before the C library of a process."""

import atexit
import shutil
import subprocess
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

SOURCE = Path(__file__).with_name("clock.c")


def can_be_wrong() -> bool:
    """Return True if there is a C compiler to build the library."""
    return shutil.which("cc") is not None


def environment(skew: timedelta) -> dict[str, str]:
    """Return the environment of a process whose clock is ahead by `skew`; behind if negative.

    Raises:
        subprocess.CalledProcessError: the library cannot be compiled.
        FileNotFoundError: there is no C compiler.
    """
    return {
        "LD_PRELOAD": str(_library()),
        "WRONG_CLOCK_SECONDS": f"{skew.total_seconds():.0f}",
    }


@cache
def _library() -> Path:
    folder = Path(mkdtemp(prefix="waybill-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "clock.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library
