"""Isolation of workers according to the processor's settings."""

import os
import sys
from pathlib import Path

from services.processor.isolation.cell import Isolation, prepare_isolation
from services.processor.isolation.probe import missing_here
from services.processor.isolation.rung import Layer, Policy, refusal
from services.processor.settings import ProcessorSettings


def isolation_of(settings: ProcessorSettings, *hidden: str | os.PathLike[str]) -> Isolation:
    """Return how workers are isolated.

    Args:
        hidden: paths that no worker may read, in addition to the blob store and secrets.
    """
    own = [os.fspath(each) for each in hidden]
    if "://" not in settings.blobs:
        own.append(os.path.expanduser(settings.blobs))  # noqa: PTH111
    if secrets := os.environ.get("WAYBILL_SECRETS"):
        own.append(secrets)
    own += [each for each in (settings.kafka_ca, settings.kafka_certificate) if each]
    return prepare_isolation(settings.isolation, hidden=own, more=settings.worker_paths)


def missing_layers(settings: ProcessorSettings) -> tuple[Layer, ...]:
    """Return the layers that this machine does not support. Call it before starting threads.

    Raises:
        OSError: the directory for temporary files cannot be used.
    """
    if settings.scratch is not None:
        Path(settings.scratch).mkdir(parents=True, exist_ok=True)
    return missing_here(isolation_of(settings), settings.scratch)


def refuse_unless_isolated(settings: ProcessorSettings) -> None:
    """Exit before any work is consumed if workers cannot be isolated as required.

    Raises:
        SystemExit: the message names the missing layers and how to provide them.
    """
    if settings.isolation is Policy.REQUIRE:
        try:
            missing = missing_layers(settings)
        except OSError as error:
            sys.exit(
                f"Cannot test the isolation of workers: {error}. Free space in the directory for "
                "temporary files, or set WAYBILL_SCRATCH to another one."
            )
        refused = refusal(settings.isolation, missing)
        if refused is not None:
            sys.exit(refused)
