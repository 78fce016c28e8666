"""The Python clients retry an upload if its answer is lost, and it stays one file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import waybill
from services.upload.settings import UploadSettings
from tests.services.upload.service import Service, UploadedEvents, running
from waybill import calls


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY_DELAY", 0.02)
    monkeypatch.setattr(calls, "MAX_RETRY_DELAY", 0.2)


@asynccontextmanager
async def losing_answers(service: Service, *, times: int) -> AsyncIterator[waybill.Addresses]:
    """A proxy that drops the connection instead of the first answers."""
    left = times

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        there, back = await asyncio.open_connection("127.0.0.1", service.port)

        async def send() -> None:
            while data := await reader.read(65536):
                back.write(data)

        sending = asyncio.create_task(send())
        while data := await there.read(65536):
            if left > 0:
                left -= 1
                writer.transport.abort()
                break
            writer.write(data)
        sending.cancel()
        back.close()
        writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield waybill.Addresses(status=url, upload=url)


@pytest.mark.parametrize("kind", ["bytes", "file"])
async def test_a_lost_answer_costs_no_second_file(
    service: Service, events: UploadedEvents, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "play.txt"
    path.write_bytes(b"To be" * 100_000)
    async with (
        losing_answers(service, times=2) as addresses,
        waybill.AsyncClient(addresses) as client,
    ):
        if kind == "file":
            answer = await client.upload(path)
        else:
            answer = await client.upload_bytes("play.txt", path.read_bytes(), size=500_000)

    assert (await events.one()).file_id == answer["file_id"]
    assert service.blob(answer["file_id"]) == path.read_bytes()


async def test_the_blocking_client_counts_what_it_sends_again_once(
    service: Service, events: UploadedEvents, tmp_path: Path
) -> None:
    path = tmp_path / "play.txt"
    path.write_bytes(b"To be" * 100_000)
    sent: list[int] = []

    def upload(addresses: waybill.Addresses) -> str:
        with waybill.Client(addresses) as client:
            return str(client.upload(path, on_sent=sent.append)["file_id"])

    async with losing_answers(service, times=2) as addresses:
        file_id = await asyncio.to_thread(upload, addresses)

    assert (await events.one()).file_id == file_id
    assert sum(sent) == 500_000
    assert min(sent) < 0


async def test_what_comes_in_blocks_cannot_be_sent_again(service: Service) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield b"To be"

    async with (
        losing_answers(service, times=1) as addresses,
        waybill.AsyncClient(addresses) as client,
    ):
        with pytest.raises(waybill.NoAnswerError):
            await client.upload_bytes("play.txt", blocks(), size=5)


async def test_a_full_service_is_asked_again_and_a_refusal_is_not(
    settings: UploadSettings,
) -> None:
    async with running(settings, max_file_size=10) as service:
        url = f"http://127.0.0.1:{service.port}"
        async with waybill.AsyncClient(waybill.Addresses(status=url, upload=url)) as client:
            with service.broken_blob_store():
                upload = asyncio.create_task(client.upload_bytes("a", b"one", size=3))
                await asyncio.sleep(0.05)
            assert (await upload)["size"] == 3
            with pytest.raises(waybill.RefusedError) as refused:
                await client.upload_bytes("a", b"x" * 11, size=11)
            assert refused.value.code == "too_large"
