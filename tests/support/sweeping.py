"""The sweeps of the upload service, as if a day had passed."""

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
    """Have the sweeps find everything old, and believe the log whatever it lacks.

    Not while a service runs: it would sweep away what it has stored and is about to publish.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orphans, "ORPHAN_AGE", timedelta(0))
        patch.setattr(orphans, "MAX_DOUBTFUL", 10_000)
        patch.setattr(sweep, "STAGED_TTL", timedelta(0))
        yield


async def sweep_all(settings: Settings) -> None:
    """Sweep away what uploads have left behind."""
    blobs = open_blob_store(settings)
    with a_day_later():
        await sweep.sweep_staged(blobs)
        await Orphans(settings, blobs).sweep()
        await blobs.sweep_packs()
