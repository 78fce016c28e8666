"""Telling the log what happened to a file, and asking the service until it knows."""

import asyncio

import httpx

from shared.events.events import StatusEvent
from shared.kafka.publishing import Publisher
from tests.support.builders import about


async def publish(publisher: Publisher, file_id: str, *events: StatusEvent) -> None:
    for event in events:
        await publisher.publish(about(file_id, event))


def status_path(file_id: str) -> str:
    return f"/api/files/{file_id}/process/status"


async def wait_for(client: httpx.AsyncClient, file_id: str, status: str) -> httpx.Response:
    async with asyncio.timeout(20):
        answer = await client.get(status_path(file_id))
        while answer.status_code == 304 or answer.json().get("status") != status:
            headers = {"If-None-Match": answer.headers["etag"]} if answer.is_success else {}
            answer = await client.get(status_path(file_id), params={"wait": 5}, headers=headers)
    return answer


async def wait_for_history(client: httpx.AsyncClient, file_id: str, length: int) -> None:
    """Wait until the service knows so many lines of a file's history."""
    async with asyncio.timeout(20):
        while True:
            answer = await client.get(f"/api/files/{file_id}/events")
            if answer.is_success and len(answer.json()["items"]) >= length:
                return
            await asyncio.sleep(0.05)
