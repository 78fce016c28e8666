"""Access to the blob writer processes."""

from pathlib import Path

import psutil


def blob_writers_of(directory: str | Path) -> list[psutil.Process]:
    """Return the blob writers of a directory."""
    command = ["shared.blobs.blob_writer_process", str(Path(directory).resolve())]
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if (each.info["cmdline"] or [])[-2:] == command
    ]
