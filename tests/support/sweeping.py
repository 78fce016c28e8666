"""The sweeps of the upload service, as if a day had passed."""

from datetime import timedelta

import pytest

from services.upload import orphans, sweep
from services.upload.orphans import Orphans
from shared.blobs import open_blob_store
from shared.settings import Settings


def age_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the sweeps find everything old, and believe the log whatever it lacks."""
    monkeypatch.setattr(orphans, "ORPHANED", timedelta(0))
    monkeypatch.setattr(orphans, "FEW", 10_000)
    monkeypatch.setattr(sweep, "STAGED_FOR", timedelta(0))


async def sweep_all(settings: Settings) -> None:
    """Sweep away what uploads have left behind."""
    blobs = open_blob_store(settings)
    await sweep.sweep_staged(blobs)
    await Orphans(settings, blobs).sweep()
    await blobs.sweep_packs()
