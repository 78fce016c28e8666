"""A user's steps through a running stack, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from shared.settings import DEMO_TYPE
from tests.support.stack import RunningStack

TERMINAL = {"completed", "failed", "cancelled"}


class Traveller:
    """A client that uploads files to a stack and follows them."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        self.http = httpx.AsyncClient(timeout=120)

    async def upload(self, name: str, content: bytes | Path, content_type: str) -> httpx.Response:
        """Upload one file as a browser does."""
        if isinstance(content, bytes):
            files = {"file": (name, content, content_type)}
            return await self.http.post(f"{self.stack.upload_url}/api/files/upload", files=files)
        with content.open("rb") as file:
            return await asyncio.to_thread(
                httpx.post,
                f"{self.stack.upload_url}/api/files/upload",
                files={"file": (name, file, content_type)},
                timeout=120,
            )

    async def upload_demo(self, **spec: Any) -> str:
        """Upload a demo file and return its id."""
        answer = await self.upload("demo.json", json.dumps(spec).encode(), DEMO_TYPE)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["file_id"])

    async def status(self, file_id: str, **params: Any) -> dict[str, Any]:
        """Return the current status."""
        answer = await self.http.get(self._status_url(file_id), params=params)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def wait_until(self, file_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """Poll until the file has one of these statuses."""
        async with asyncio.timeout(seconds):
            while (document := await self.status(file_id))["status"] not in statuses:
                await asyncio.sleep(0.1)
        return document

    async def wait(self, file_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """Poll until the file is terminal."""
        return await self.wait_until(file_id, *TERMINAL, seconds=seconds)

    async def stream(self, file_id: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the status documents of the file's SSE stream until it ends."""
        request = self.http.stream("GET", self._status_url(file_id), params={"stream": "true"})
        async with request as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    async def close(self) -> None:
        await self.http.aclose()

    def _status_url(self, file_id: str) -> str:
        return f"{self.stack.status_url}/api/files/{file_id}/process/status"
