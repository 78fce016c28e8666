"""The uploaded files in a blob store."""

from datetime import UTC, datetime
from pathlib import Path

from shared.blobs.blobs import BlobStore
from shared.blobs.packs import Packs
from shared.blobs.places import SOURCES, file_id_of

EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


async def stored_files(store: BlobStore) -> dict[str, str]:
    """Return the key of each uploaded file by id."""
    found = await store.stored(SOURCES) | await store.packed(*EVER)
    assert len(set(map(file_id_of, found))) == len(found)
    return {file_id_of(key): key for key in found}


def contents(directory: str | Path) -> dict[str, bytes]:
    """Return the content of each uploaded file in a directory by id."""
    whole = {path.name: path.read_bytes() for path in Path(directory, SOURCES).glob("*")}
    packs = Packs(Path(directory))
    slices = {each.name: packs.read(each.key) for each in packs.slices()}
    assert not whole.keys() & slices.keys()
    return whole | slices
