"""Only records written with the installation's secret are valid."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.status.projection.projection import FileState
from services.status.store.access import Visibility
from services.status.webhooks.registry import Webhook, Webhooks
from shared.auth.accesserrors import InvalidTokenError
from shared.auth.apikeys import ApiKeys, new_key
from shared.auth.principal import Role
from shared.auth.sealed import UNSEALED, Seal, seal_of
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.settings import AccessSettings, SealSettings, Settings, from_environment

SEAL = Seal(b"a secret of these tests, 32 bytes or more")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blob_store(Settings(blobs=str(tmp_path)))


@given(st.dictionaries(st.text(), st.text() | st.integers(), min_size=1), st.booleans())
def test_a_sealed_record_is_the_same_json_with_one_field_more(
    record: dict[str, str | int], is_compact: bool
) -> None:
    text = json.dumps(record, separators=(",", ":") if is_compact else None)
    sealed = SEAL.close("keys/a.json", text.encode())
    assert SEAL.open("keys/a.json", sealed) == sealed
    read = json.loads(sealed)
    seal = read.pop("seal")
    assert len(seal) == 64
    assert read == {name: value for name, value in record.items() if name != "seal"}


@pytest.mark.parametrize(
    "changed",
    [
        b'{"role":"user"}',
        b'{"role":"admin","seal":"' + b"0" * 64 + b'"}',
        SEAL.close("keys/b.json", b'{"role":"user"}'),
        SEAL.close("keys/a.json", b'{"role":"user"}').replace(b"user", b"admin"),
        b'{"role":"admin",' + SEAL.close("keys/a.json", b'{"role":"user"}')[1:],
        SEAL.close("keys/a.json", b'{"role":"user"}') + b"}",
        Seal(b"another secret of these tests, long enough").close(
            "keys/a.json", b'{"role":"user"}'
        ),
        b"",
    ],
)
def test_what_was_not_sealed_for_its_place_does_not_count(
    changed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert SEAL.open("keys/a.json", changed) is None
    assert "keys/a.json" in caplog.text


def test_sealing_again_replaces_the_seal() -> None:
    record = b'{"role":"user"}'
    old = Seal(b"another secret of these tests, long enough").close("keys/a.json", record)
    assert SEAL.close("keys/a.json", old) == SEAL.close("keys/a.json", record)


def test_without_a_secret_everything_counts_as_in_earlier_versions() -> None:
    record = b'{"role":"user"}'
    assert UNSEALED.close("keys/a.json", record) == record
    assert UNSEALED.open("keys/a.json", record) == record
    assert UNSEALED.open("keys/a.json", SEAL.close("keys/a.json", record)) is not None


def test_the_secret_is_its_own_or_that_of_tokens() -> None:
    own = SealSettings(seal_secret="s" * 32)
    other = SealSettings(auth_secret="s" * 32)
    record = seal_of(own).close("keys/a.json", b'{"a":1}')
    assert seal_of(other).is_intact("keys/a.json", record)
    assert not seal_of(SealSettings()).is_set
    with pytest.raises(ValidationError, match="openssl rand"):
        SealSettings(seal_secret="short")  # noqa: S106


@pytest.mark.parametrize("secret", ["", "short"])
def test_a_secret_that_anybody_can_guess_is_none(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYBILL_AUTH_SECRET", secret)
    assert not seal_of(from_environment(AccessSettings)).is_set
    monkeypatch.setenv("WAYBILL_SEAL_SECRET", "")
    assert not seal_of(from_environment(SealSettings)).is_set


async def test_a_key_that_a_stranger_wrote_is_none(blobs: BlobStore) -> None:
    key, text = new_key("mallory", role=Role.ADMIN)
    await ApiKeys(blobs).add(key)  # As anyone with write access to the store could.
    with pytest.raises(InvalidTokenError):
        await ApiKeys(blobs, seal=SEAL).verify(text)
    assert await ApiKeys(blobs, seal=SEAL).all() == []


async def test_a_key_that_was_sealed_and_then_changed_is_none(blobs: BlobStore) -> None:
    keys = ApiKeys(blobs, seal=SEAL)
    key, text = new_key("mallory")
    await keys.add(key)
    assert (await keys.verify(text)).roles == {Role.USER}
    record = await blobs.get(key.place)
    await blobs.put(key.place, record.replace(b'"user"', b'"admin"'))
    with pytest.raises(InvalidTokenError):
        await ApiKeys(blobs, seal=SEAL).verify(text)


async def test_a_key_at_the_place_of_another_is_none(blobs: BlobStore) -> None:
    keys = ApiKeys(blobs)
    key, _ = new_key("ada", role=Role.ADMIN)
    other, text = new_key("mallory")
    await keys.add(other)
    stolen = key.model_copy(update={"secret_sha256": other.secret_sha256})
    await blobs.put(other.place, stolen.model_dump_json().encode())
    with pytest.raises(InvalidTokenError):
        await ApiKeys(blobs).verify(text)


async def test_keys_of_an_earlier_version_count_once_they_are_signed(blobs: BlobStore) -> None:
    key, text = new_key("ada")
    await ApiKeys(blobs).add(key)
    keys = ApiKeys(blobs, seal=SEAL)
    assert await keys.seal_all() == [key.place]
    assert await keys.seal_all() == []
    assert (await keys.verify(text)).subject == "ada"
    assert (await ApiKeys(blobs).verify(text)).subject == "ada"  # The earlier version reads it.


async def test_a_key_without_a_seal_can_be_revoked(blobs: BlobStore) -> None:
    key, _ = new_key("mallory", role=Role.ADMIN)
    await ApiKeys(blobs).add(key)
    assert await ApiKeys(blobs, seal=SEAL).revoke(key.id)
    assert await blobs.keys("keys/") == []


async def test_a_webhook_that_a_stranger_wrote_is_none(blobs: BlobStore) -> None:
    everything = Visibility(everything=True, tenant=None, owner=None)
    mine, theirs = (
        Webhook.new(url, states=frozenset(FileState), label=None, visible_to=everything)
        for url in ("https://ours.example/", "https://theirs.example/")
    )
    await Webhooks(blobs, seal=SEAL).add(mine)
    await Webhooks(blobs).change(theirs)
    assert await Webhooks(blobs, seal=SEAL).all() == {mine.id: mine}
