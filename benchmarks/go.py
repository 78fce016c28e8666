"""Peers that are written in Go and built from their sources."""

import shutil
import subprocess
import sys
from pathlib import Path


def built(sources: Path, binary: Path) -> bool:
    """Whether there is such a peer to stand beside; it needs Go."""
    if shutil.which("go") is None:
        sys.stdout.write(f"without Go there is no {binary.name} to measure\n")
        return False
    binary.parent.mkdir(parents=True, exist_ok=True)
    build = subprocess.run(["go", "build", "-o", str(binary), "."], cwd=sources, check=False)  # noqa: S607
    return build.returncode == 0
