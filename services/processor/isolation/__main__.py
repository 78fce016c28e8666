"""Show how workers would be isolated on this machine: `python -m services.processor.isolation`."""

import argparse
import json
import sys

from services.processor.isolation.configured import missing_layers
from services.processor.isolation.rung import REMEDIES, refusal, rung_of
from services.processor.settings import ProcessorSettings
from shared.settings import from_environment


def main() -> None:
    """Print the isolation level and missing layers as JSON.

    With `--check`, exit with 1 if a processor would refuse to start.
    """
    parser = argparse.ArgumentParser(prog="python -m services.processor.isolation")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if the isolation is insufficient"
    )
    asked = parser.parse_args()
    settings = from_environment(ProcessorSettings)
    missing = missing_layers(settings)
    refused = refusal(settings.isolation, missing)
    report = {
        "policy": settings.isolation,
        "rung": rung_of(missing),
        "missing": {layer: REMEDIES[layer] for layer in missing},
        "starts": refused is None,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    if asked.check and refused is not None:
        sys.exit(1)


if __name__ == "__main__":
    main()
