"""MongoDB from the package registry."""

import os
from importlib.util import find_spec
from pathlib import Path

from waybill.errors import StackError
from waybill.local.ports import HOST, free_port, wait_for_port
from waybill.local.process import Child

START_TIMEOUT = 30.0

CACHE_GB = "0.25"
"""WiredTiger's smallest cache, because a local stack has few documents."""


def start_mongodb(folder: Path, logs: Path, *options: str) -> tuple[Child, str]:
    """Start mongod.

    Args:
        folder: Folder for the data.
        logs: Folder for the log.
        options: Further options of mongod.

    Returns:
        The process and its connection string. Call `wait_for_mongodb` before connecting.

    Raises:
        StackError: There is no mongod for this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        str(_mongod()),
        *("--dbpath", str(folder)),
        *("--bind_ip", HOST, "--port", str(port)),
        *("--wiredTigerCacheSizeGB", CACHE_GB),
        "--quiet",
        "--nounixsocket",
        *options,
    ]
    child = Child("mongodb", command, environment=os.environ, log=logs / "mongodb.log")
    return child, f"mongodb://{HOST}:{port}"


def wait_for_mongodb(mongodb: Child, uri: str) -> None:
    """Wait until mongod accepts connections.

    Raises:
        StackError: The process exited, or did not listen within `START_TIMEOUT`.
    """
    port = int(uri.rpartition(":")[2])
    wait_for_port(port, seconds=START_TIMEOUT, alive=lambda: mongodb.alive, what="mongod")


def _mongod() -> Path:
    """Return the executable in the wheel, without importing the package, which has side effects."""
    spec = find_spec("fiftyone")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(location) / "db" / "bin" / "mongod"
        if binary.exists():
            binary.chmod(binary.stat().st_mode | 0o111)
            return binary
    raise StackError(
        "There is no mongod for this machine: install waybill[local] (Linux on x86-64), "
        "or set WAYBILL_MONGODB to a running MongoDB."
    )
