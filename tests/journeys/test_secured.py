"""Waybill with a Kafka and a MongoDB that ask who is there, over TLS."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from shared.kafka.connection import admin_client
from shared.settings import Settings
from tests.support.secured import PASSWORD, USER, Secured, secured_parts
from tests.support.stack import RunningStack
from waybill.addresses import Addresses
from waybill.client import Client


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_parts(tmp_path_factory.mktemp("secured")) as parts:
        yield parts


def environment(secured: Secured) -> dict[str, str]:
    return {
        "WAYBILL_KAFKA": secured.kafka,
        "WAYBILL_KAFKA_TLS": "true",
        "WAYBILL_KAFKA_CA": str(secured.ca),
        "WAYBILL_KAFKA_CERTIFICATE": str(secured.certificate),
        "WAYBILL_KAFKA_USERNAME": USER,
        "WAYBILL_KAFKA_PASSWORD": PASSWORD,
        "WAYBILL_MONGODB": secured.mongodb,
    }


def test_a_file_goes_its_whole_way(secured: Secured, tmp_path: Path) -> None:
    given = environment(secured)
    stack = RunningStack.start(tmp_path, **given)
    try:
        addresses = Addresses(status=stack.status_url, upload=stack.upload_url)
        with Client(addresses) as client:
            uploaded = client.upload_bytes("a.txt", [b"some words"], size=10)
            assert client.wait(uploaded["file_id"], seconds=60)["status"] == "completed"
        replayed = subprocess.run(
            [sys.executable, "-m", "services.status.replay", "--verify"],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        logs = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
        assert PASSWORD not in logs + stack.output
        assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600
    finally:
        stack.stop()


def settings(secured: Secured, **changes: object) -> Settings:
    names = {
        name.removeprefix("WAYBILL_").lower(): value for name, value in environment(secured).items()
    }
    return Settings.model_validate(names | changes)


async def test_a_password_may_be_sent_as_it_is_over_tls(secured: Secured) -> None:
    async with admin_client(settings(secured, kafka_mechanism="PLAIN")) as admin:
        assert await admin.list_topics() is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"kafka_password": "another"},
        {"kafka_certificate": None},
        {"kafka_ca": None},
    ],
)
async def test_nobody_gets_in_without_all_that_is_asked_for(
    secured: Secured, changes: dict[str, object]
) -> None:
    with pytest.raises(KafkaError):
        async with admin_client(settings(secured, **changes)):
            pass
