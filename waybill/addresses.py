"""Find the URLs of the services: from arguments, the environment, the local stack or defaults."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path(".waybill")

SEAL_FILE = "seal.secret"
"""File in a stack's folder with the secret that seals its API keys and webhooks."""


@dataclass(frozen=True)
class Addresses:
    """The URLs of the status and the upload service, without a trailing slash."""

    status: str = "http://127.0.0.1:8000"
    upload: str = "http://127.0.0.1:8001"


def stack_description(folder: Path) -> dict[str, object]:
    """Return the content of `stack.json` in `folder`; empty if no stack runs there."""
    try:
        description = json.loads((folder / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}


def stack_environment(folder: Path) -> dict[str, str]:
    """Return the environment for commands that use the stack in `folder`.

    This process's environment takes precedence. The secret of a stopped stack is included too, so
    that API keys created in the meantime are valid once it runs again.
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
    """Return the URLs of the services.

    Each one comes from the argument, else the environment, else the local stack, else the default.

    Args:
        status: URL of the status service.
        upload: URL of the upload service.
        folder: Folder of the local stack.
    """
    running = stack_description(folder)
    defaults = Addresses()
    found_status = status or os.environ.get("WAYBILL_STATUS_URL") or running.get("status_url")
    found_upload = upload or os.environ.get("WAYBILL_UPLOAD_URL") or running.get("upload_url")
    return Addresses(
        status=str(found_status or defaults.status).rstrip("/"),
        upload=str(found_upload or defaults.upload).rstrip("/"),
    )
