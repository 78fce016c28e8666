"""Where the services are: what the user says, the running local stack, or the defaults."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path(".waybill")

SEAL_FILE = "seal.secret"
"""In the folder of a stack: what seals its API keys and webhooks."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of the two services, without a slash at their ends."""

    status: str = "http://127.0.0.1:8000"
    upload: str = "http://127.0.0.1:8001"


def stack_description(folder: Path) -> dict[str, object]:
    """What `stack.json` says of the stack that runs in `folder`; empty if none does."""
    try:
        description = json.loads((folder / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}


def stack_environment(folder: Path) -> dict[str, str]:
    """Return the environment of the stack in `folder`, for commands beside it.

    What is in this process's environment goes before it. The blob store of a stack that does not
    run now keeps its secret: a key that is made meanwhile is one when the stack runs again.
    """
    running = stack_description(folder)
    known = {
        f"WAYBILL_{name.upper()}": str(running[name])
        for name in ("kafka", "mongodb", "blobs")
        if name in running
    }
    environment = {**known, **os.environ}
    seal, own_blobs = folder / SEAL_FILE, (folder / "blobs").resolve()
    if not seal.exists() or "WAYBILL_SECRETS" in environment:
        return environment
    if not running:
        environment.setdefault("WAYBILL_BLOBS", str(own_blobs))
    blobs = environment.get("WAYBILL_BLOBS")
    if blobs is not None and (blobs == running.get("blobs") or Path(blobs).resolve() == own_blobs):
        environment.setdefault("WAYBILL_SEAL_SECRET", seal.read_text())
    return environment


def find_addresses(
    *, status: str | None = None, upload: str | None = None, folder: Path = DEFAULT_FOLDER
) -> Addresses:
    """Each address from the argument, else the environment, else the stack, else the default."""
    running = stack_description(folder)
    defaults = Addresses()
    found_status = status or os.environ.get("WAYBILL_STATUS_URL") or running.get("status_url")
    found_upload = upload or os.environ.get("WAYBILL_UPLOAD_URL") or running.get("upload_url")
    return Addresses(
        status=str(found_status or defaults.status).rstrip("/"),
        upload=str(found_upload or defaults.upload).rstrip("/"),
    )
