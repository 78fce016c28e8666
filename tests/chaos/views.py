"""Responses over HTTP at the end, from a fresh status pod and from pods that lived through it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx

from tests.chaos.gauges import Gauges, read_gauges
from tests.chaos.plan import PlannedFile

PAGE = 500
"""Files per page of the list: the maximum."""

AT_ONCE = 8
"""Concurrent requests."""

SETTLING = 90.0
"""Seconds for the surviving pods to recover; a few are usual."""

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Views:
    """The same files as shown in different places."""

    listed: Mapping[str, Document] = field(default_factory=dict)
    """Each file as listed by a fresh pod."""
    single: Mapping[str, Document] = field(default_factory=dict)
    """Each file as returned alone by a fresh pod."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the extracted text of each completed text."""
    numbers: Mapping[str, Document] = field(default_factory=dict)
    """The response of `/api/stats`, by pod."""
    not_ready: Mapping[str, str] = field(default_factory=dict)
    """Reasons why services are not ready, by name."""
    gauges: Mapping[str, Gauges] = field(default_factory=dict)
    """The gauges of each service that answered, by name."""


async def look(
    fresh: str, accepted: Mapping[str, PlannedFile], *, services: Mapping[str, str], status: str
) -> Views:
    """Query everything.

    Args:
        fresh: address of a newly started status pod.
        services: address of each running service, by name.
        status: address of the status pod that lived through the run.
    """
    async with httpx.AsyncClient(base_url=fresh, timeout=60) as http:
        listed = await _list(http)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def single(file_id: str) -> Document | None:
            async with at_once:
                answer = await http.get(f"/api/files/{file_id}")
                found: Document = answer.json()
                return found if answer.status_code == 200 else None

        async def text(file_id: str) -> str:
            async with at_once:
                answer = await http.get(f"/api/files/{file_id}/artifacts/text.txt")
                return sha256(answer.content).hexdigest() if answer.status_code == 200 else ""

        ids = sorted(accepted.keys() | listed.keys())
        texts = [file_id for file_id, planned in accepted.items() if planned.text]
        documents = await asyncio.gather(*map(single, ids))
        contents = await asyncio.gather(*map(text, texts))
        numbers, old_numbers, not_ready = await asyncio.gather(
            _numbers(http, fresh), _numbers(http, status), _not_ready(http, services)
        )
        return Views(
            listed=listed,
            single={
                file_id: document
                for file_id, document in zip(ids, documents, strict=True)
                if document is not None
            },
            texts=dict(zip(texts, contents, strict=True)),
            numbers={"fresh": numbers, "status": old_numbers},
            not_ready=not_ready,
            gauges=await _gauges(http, services),
        )


async def _list(http: httpx.AsyncClient) -> dict[str, Document]:
    """Return every file of the list, page by page."""
    listed: dict[str, Document] = {}
    parameters: dict[str, Any] = {"limit": PAGE}
    while True:
        answer = await http.get("/api/files", params=parameters)
        answer.raise_for_status()
        page = answer.json()
        listed |= {document["file_id"]: document for document in page["items"]}
        if page["next_cursor"] is None:
            return listed
        parameters["cursor"] = page["next_cursor"]


async def _numbers(http: httpx.AsyncClient, address: str) -> Document:
    """Return `/api/stats` once the queue is empty, or the last response."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + SETTLING
    while True:
        answer = await http.get(f"{address}/api/stats")
        numbers: Document = answer.json()
        lags = [lag for topics in numbers.get("lag", {}).values() for lag in topics.values()]
        if (answer.status_code == 200 and lags and not any(lags)) or clock() > deadline:
            return numbers
        await asyncio.sleep(0.5)


async def _not_ready(http: httpx.AsyncClient, services: Mapping[str, str]) -> dict[str, str]:
    """Return the services that are still not ready after the settling time, and the reasons."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + SETTLING
    while True:
        reasons = {}
        for name, address in services.items():
            try:
                answer = await http.get(f"{address}/health/ready", timeout=5)
            except httpx.HTTPError as error:
                reasons[name] = repr(error)
                continue
            if answer.status_code != 200:
                reasons[name] = answer.text
        if not reasons or clock() > deadline:
            return reasons
        await asyncio.sleep(0.5)


async def _gauges(http: httpx.AsyncClient, services: Mapping[str, str]) -> dict[str, Gauges]:
    gauges = {}
    for name, address in services.items():
        with suppress(httpx.HTTPError):  # Reported by `_not_ready`.
            gauges[name] = await read_gauges(http, address)
    return gauges
