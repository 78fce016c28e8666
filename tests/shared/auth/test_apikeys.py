"""API keys: stored records do not reveal keys, and revoked keys stop working soon."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from shared.auth.accesserrors import InvalidTokenError, TokenExpiredError
from shared.auth.apikeys import CACHED_FOR, MAX_CACHED, ApiKeys, new_key, place_of
from shared.auth.principal import Role, Scope
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.settings import Settings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blob_store(Settings(blobs=str(tmp_path / "blobs"), blobs_fsync=False))


@pytest.fixture
def keys(blobs: BlobStore, clock: Clock) -> ApiKeys:
    return ApiKeys(blobs, clock=clock)


async def test_a_key_tells_who_has_it_and_what_for(keys: ApiKeys) -> None:
    key, text = new_key(
        "ci", tenant="acme", role=Role.OPERATOR, scopes=frozenset({Scope.READ}), note="the build"
    )
    await keys.add(key)
    found = await keys.verify(text)
    assert (found.subject, found.tenant, found.is_operator) == ("ci", "acme", True)
    assert found.scopes == {Scope.READ}
    assert found.api_key == key.id


async def test_what_is_stored_does_not_tell_the_key(keys: ApiKeys, blobs: BlobStore) -> None:
    key, text = new_key("ci")
    await keys.add(key)
    stored = await blobs.get(place_of(key.id))
    assert text.rsplit("_", 1)[-1].encode() not in stored
    assert text[20:].encode() not in stored


async def test_a_key_that_is_wrong_in_any_part_is_refused(keys: ApiKeys) -> None:
    (key, text), (other, another) = new_key("ci"), new_key("ci")
    await keys.add(key)
    await keys.add(other)
    for wrong in (
        text[:-1],
        text + "A",
        text[:20] + another[20:],
        text.replace("wb_", "wb_../"),
        text.upper(),
        f"wb_{key.id}_{key.secret_sha256[:43]}",
        "wb_",
        "",
    ):
        with pytest.raises(InvalidTokenError):
            await keys.verify(wrong)


async def test_a_key_ends_when_it_shall(keys: ApiKeys) -> None:
    key, text = new_key("ci", lasts=timedelta(0))
    await keys.add(key)
    with pytest.raises(TokenExpiredError):
        await keys.verify(text)


async def test_a_revoked_key_lives_as_long_as_it_is_cached(
    keys: ApiKeys, blobs: BlobStore, clock: Clock
) -> None:
    key, text = new_key("ci")
    await keys.add(key)
    await keys.verify(text)
    assert await ApiKeys(blobs).revoke(key.id)  # On another pod.
    await keys.verify(text)
    clock.now += CACHED_FOR
    with pytest.raises(InvalidTokenError):
        await keys.verify(text)
    assert not await keys.revoke(key.id)


async def test_guessing_does_not_fill_the_memory(
    keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.auth.apikeys.MAX_CACHED", 3)
    for _ in range(10):
        with pytest.raises(InvalidTokenError):
            await keys.verify(new_key("nobody")[1])
    assert len(keys._cache) == 3 < MAX_CACHED


def test_keys_are_made_listed_and_revoked_by_the_command_line(tmp_path: Path) -> None:
    def waybill(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "waybill", "keys", *arguments],
            env={"WAYBILL_BLOBS": str(tmp_path / "blobs")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    made = waybill("create", "ci", "--tenant", "acme", "--scope", "files:upload", "--days", "90")
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    listed = waybill("list").stdout
    assert "ci (user of acme)  files:upload  until" in listed
    assert text[20:] not in listed
    key_id = listed.split()[0]
    assert text.startswith(f"wb_{key_id}_")
    assert waybill("revoke", key_id).returncode == 0
    assert waybill("list").stdout == ""
    assert waybill("revoke", key_id).returncode == 1
