"""A stand-in for both services, in memory: for what a real stack cannot be made to do on command.

A stream that breaks at a given moment, an answer that comes late, a thousand files at once, an
upload that stops half way. What the page says of real files is proved against the real stack.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from services.status import dashboard

Document = dict[str, Any]

EPOCH = datetime.now(UTC)


def moment(seconds: float) -> str:
    """A time so many seconds after the stand-in was loaded, as the services write it."""
    written = (EPOCH + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")


class Standin:
    """Files that a test puts in, and the connections of the pages that follow them."""

    url = ""
    """Where it answers, once it is served."""

    def __init__(self) -> None:
        self.files: dict[str, Document] = {}
        self.streams: set[asyncio.Queue[bytes | None]] = set()
        self.asked: list[str] = []
        """Every path that was asked for, with its query."""
        self.down = False
        """Whether every request is answered 503."""
        self.held_back: str | None = None
        """Lists whose query has this part are answered when it is None again."""
        self.storing = asyncio.Event()
        """Uploads are read to their end while this is set."""
        self.storing.set()
        self.known: str | None = None
        """The earlier file that every upload is; None while each is a new one."""
        self.waiting = 0
        """Files in the queue."""
        self.stuck: list[Document] = []
        self.refused: str | None = None
        """Why commands are refused; None while they are accepted."""
        self._ticks = 0

    def put(self, file_id: str, **facts: Any) -> Document:
        """Set facts of a file, newer than all before, without telling anybody."""
        self._ticks += 1
        known = self.files.get(file_id) or _new_document(file_id)
        self.files[file_id] = known | {"updated_at": moment(self._ticks / 1000)} | facts
        return self.files[file_id]

    def tell(self, *documents: Document) -> None:
        """Send states to all pages that follow."""
        for document in documents:
            summary = {key: value for key, value in document.items() if key != "history"}
            line = JSONResponse(summary).body
            for stream in self.streams:
                stream.put_nowait(b"data: " + bytes(line) + b"\n\n")

    async def asked_for(self, part: str, *, times: int = 1) -> None:
        """Wait until a path with this part was asked for."""
        async with asyncio.timeout(20):
            while sum(part in path for path in self.asked) < times:
                await asyncio.sleep(0.02)

    def in_seconds(self, seconds: float) -> str:
        """A time so many seconds from now."""
        return moment((datetime.now(UTC) - EPOCH).total_seconds() + seconds)

    def close(self) -> None:
        """Let go of every request that waits, so that the server can end."""
        self.down = True
        self.held_back = None
        self.storing.set()
        self.cut()

    def cut(self) -> None:
        """End all streams."""
        for stream in self.streams:
            stream.put_nowait(None)

    def app(self) -> FastAPI:
        """Both services as one application."""
        app = FastAPI()
        dashboard.mount(app, upload_url="")

        @app.middleware("http")
        async def note(request: Request, call_next: Any) -> Response:
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            self.asked.append(path)
            if self.down and path.startswith("/api"):
                return _problem(503, "unavailable", "The stand-in is down.")
            response: Response = await call_next(request)
            return response

        @app.get("/api/config")
        async def config(request: Request) -> Document:
            return {
                "upload_url": str(request.base_url).rstrip("/"),
                "version": "0.0.0",
                "demo": True,
            }

        @app.get("/api/stats")
        async def stats() -> Document:
            return {
                "queue": {"length": self.waiting, "expected_seconds": self.waiting / 4},
                "rates": {"arrived": 4.0, "begun": 4.0, "ended": 4.0 if self.waiting else 0.0},
            }

        @app.get("/api/admin/stuck")
        async def stuck() -> Document:
            return {"items": self.stuck}

        @app.get("/api/stream")
        async def stream() -> Response:
            return StreamingResponse(self._frames(), media_type="text/event-stream")

        @app.get("/api/files")
        async def listed(
            request: Request, status: str = "", name: str = "", limit: int = 50, cursor: str = ""
        ) -> Document:
            # The answer is made first: one that is held back tells of the past.
            found = [
                file
                for file_id, file in sorted(self.files.items(), reverse=True)
                if (not cursor or file_id < cursor)
                and status in ("", file["status"])
                and name.lower() in file["name"].lower()
            ]
            page = found[:limit]
            while self.held_back is not None and self.held_back in request.url.query:
                await asyncio.sleep(0.02)
            more = len(found) > limit
            return {"items": page, "next_cursor": page[-1]["file_id"] if more else None}

        @app.get("/api/files/{file_id}")
        async def one(file_id: str) -> Response:
            if file_id not in self.files:
                return _problem(404, "unknown_file", f"No file has the id {file_id!r}.")
            return JSONResponse({"history": [], **self.files[file_id]})

        @app.post("/api/files/{file_id}/{command}")
        async def command(file_id: str, command: str) -> Response:
            if self.refused is not None:
                return _problem(409, "refused", self.refused)
            if command == "retry":
                self.put(file_id, **_NEW_RUN, run=self.files[file_id]["run"] + 1)
            return JSONResponse({"history": [], **self.files[file_id]}, 202)

        @app.delete("/api/files/{file_id}")
        async def delete(file_id: str) -> Response:
            if self.refused is not None:
                return _problem(409, "refused", self.refused)
            left = self.put(file_id, deleted_at=self.in_seconds(0), name=None)
            del self.files[file_id]
            return JSONResponse({"history": [], **left}, 202)

        @app.post("/api/files/upload")
        async def upload(request: Request) -> Response:
            size = 0
            try:
                async for chunk in request.stream():
                    size += len(chunk)
                    await self.storing.wait()
            except ClientDisconnect:
                return Response(status_code=400)  # Nobody reads it.
            file = self.put(f"z{len(self.files):04}", name="uploaded.bin", size=size)
            facts = ("file_id", "status", "name", "size", "content_type")
            if self.known is not None:
                del self.files[file["file_id"]]
                return JSONResponse({"file_id": self.known, "deduplicated": True}, 200)
            return JSONResponse({key: file[key] for key in facts}, 202)

        return app

    async def _frames(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.streams.add(queue)
        try:
            yield b'event: subscribed\ndata: {"complete": false}\n\n'
            while (line := await queue.get()) is not None:
                yield line
        finally:
            self.streams.discard(queue)


_NEW_RUN: Document = {
    "status": "pending",
    "phase": "queued",
    "progress": None,
    "attempt": 0,
    "max_attempts": None,
    "error": None,
    "next_attempt_at": None,
    "result": None,
    "started_at": None,
    "finished_at": None,
}
"""What the document of a file says at the start of each run."""


def _new_document(file_id: str) -> Document:
    return _NEW_RUN | {
        "file_id": file_id,
        "run": 1,
        "created_at": moment(-60),
        "deleted_at": None,
        "tenant": None,
        "owner": None,
        "name": f"{file_id}.txt",
        "size": 1234,
        "content_type": "text/plain",
        "sha256": "0" * 64,
        "labels": {},
        "batch_id": None,
    }


def _problem(status: int, code: str, detail: str) -> Response:
    problem = {"title": "No", "status": status, "code": code, "detail": detail}
    return JSONResponse(problem, status, media_type="application/problem+json")
