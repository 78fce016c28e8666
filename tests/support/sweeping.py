"""Run the sweeps of the upload service as if a day had passed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from services.upload.cleanup import orphans, sweep
from services.upload.cleanup.orphans import Orphans
from shared.blobs.blobs import open_blob_store
from shared.settings import Settings


@contextmanager
def a_day_later() -> Iterator[None]:
    """Make the sweeps treat everything as old, and trust the log even if it lacks records.

    Do not use it while a service runs: it would delete blobs that are about to be published.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orphans, "ORPHAN_AGE", timedelta(0))
        patch.setattr(orphans, "MAX_DOUBTFUL", 10_000)
        patch.setattr(sweep, "STAGED_TTL", timedelta(0))
        yield


async def sweep_all(settings: Settings) -> None:
    """Run all sweeps of the upload service."""
    blobs = open_blob_store(settings)
    with a_day_later():
        await sweep.sweep_staged(blobs)
        await Orphans(settings, blobs).sweep()
        await blobs.sweep_packs()
