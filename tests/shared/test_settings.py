"""A service does not start with settings that would expose it by mistake."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.settings import AccessSettings

SECRET = "s3cret-" * 5
JWKS = {
    "auth": "jwt",
    "auth_jwks_url": "https://issuer.test/keys",
    "auth_issuer": "https://issuer.test",
    "auth_audience": "waybill",
}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_without_tokens_the_loopback_is_listened_on(host: str) -> None:
    assert AccessSettings(host=host).auth == "none"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "waybill.test", "", "::ffff:0:0"])  # noqa: S104
def test_without_tokens_nothing_else_is_listened_on(host: str) -> None:
    with pytest.raises(ValidationError, match="WAYBILL_AUTH=jwt"):
        AccessSettings(host=host)


@pytest.mark.parametrize(
    "chosen",
    [
        {"auth": "open"},
        {"auth": "jwt", "auth_secret": SECRET},
        JWKS,
        JWKS | {"auth_jwks_url": "http://127.0.0.1:9/keys"},
    ],
)
def test_who_asks_for_tokens_or_says_so_may_listen_anywhere(chosen: dict[str, Any]) -> None:
    AccessSettings(host="0.0.0.0", **chosen)  # noqa: S104


@pytest.mark.parametrize(
    "chosen",
    [
        {"auth": "jwt"},
        {"auth": "jwt", "auth_secret": "short"},
        JWKS | {"auth_secret": SECRET},
        JWKS | {"auth_audience": None},
        JWKS | {"auth_issuer": None},
        JWKS | {"auth_jwks_url": "http://issuer.test/keys"},
    ],
)
def test_tokens_that_could_not_be_told_from_forged_ones_are_not_asked_for(
    chosen: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        AccessSettings(**chosen)


@pytest.mark.parametrize("service", ["upload", "status"])
def test_a_service_says_why_it_does_not_start_and_no_secret(service: str) -> None:
    environment = {
        "WAYBILL_HOST": "0.0.0.0",  # noqa: S104
        "WAYBILL_AUTH_SECRET": SECRET,
        "WAYBILL_MONGODB": f"mongodb://waybill:{SECRET}@127.0.0.1:9",
    }
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "WAYBILL_HOST=0.0.0.0 is reachable from other machines" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout


def test_a_secret_may_be_a_file_and_the_environment_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "WAYBILL_AUTH_SECRET").write_text(SECRET + "\n")
    (tmp_path / "WAYBILL_AUTH_ISSUER").write_text("of the file")
    monkeypatch.setenv("WAYBILL_SECRETS", str(tmp_path))
    monkeypatch.setenv("WAYBILL_AUTH_ISSUER", "of the environment")

    settings = AccessSettings(auth="jwt")

    assert settings.auth_secret is not None
    assert settings.auth_secret.get_secret_value() == SECRET
    assert settings.auth_issuer == "of the environment"
