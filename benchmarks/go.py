"""Build the peers that are written in Go."""

import shutil
import subprocess
import sys
from pathlib import Path


def built(sources: Path, binary: Path) -> bool:
    """Build a peer; return False if Go is missing or the build fails."""
    if shutil.which("go") is None:
        sys.stdout.write(f"{binary.name} is not measured: Go is missing\n")
        return False
    binary.parent.mkdir(parents=True, exist_ok=True)
    build = subprocess.run(["go", "build", "-o", str(binary), "."], cwd=sources, check=False)  # noqa: S607
    return build.returncode == 0
