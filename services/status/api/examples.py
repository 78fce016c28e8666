"""Example responses for the OpenAPI document. A test checks each against its model."""

from typing import Any

Example = dict[str, Any]

_ID = "019f1c2a-7c00-7d10-8a52-0b1d6f3c9a41"
_POD = "processor-5d9f-7"

STATUS: Example = {
    "file_id": _ID,
    "status": "processing",
    "phase": "extracting",
    "progress": {"done": 3, "total": 12, "percent": 25},
    "run": 1,
    "attempt": 1,
    "max_attempts": 3,
    "error": None,
    "next_attempt_at": None,
    "result": None,
    "created_at": "2026-11-25T09:00:00.000Z",
    "started_at": "2026-11-25T09:00:00.250Z",
    "finished_at": None,
    "updated_at": "2026-11-25T09:00:01.100Z",
    "deleted_at": None,
    "tenant": None,
    "owner": "ada",
    "name": "report.pdf",
    "size": 48213,
    "content_type": "application/pdf",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "labels": {"team": "a"},
    "batch_id": None,
    "history": [
        {
            "id": f"{_ID}:1:0:file.uploaded",
            "type": "file.uploaded",
            "time": "2026-11-25T09:00:00.000Z",
            "run": 1,
            "attempt": None,
            "pod": None,
            "code": None,
            "message": None,
            "next_attempt_at": None,
            "offset": 41,
            "time_limit": None,
            "superseded": False,
        },
        {
            "id": f"{_ID}:1:1:file.processing",
            "type": "file.processing",
            "time": "2026-11-25T09:00:00.250Z",
            "run": 1,
            "attempt": 1,
            "pod": _POD,
            "code": None,
            "message": None,
            "next_attempt_at": None,
            "offset": 120,
            "time_limit": 900.0,
            "superseded": False,
        },
    ],
    "position": [1, 0, 1, 2, 3, 0],
    "queue": None,
}

PAGE: Example = {
    "items": [{key: STATUS[key] for key in STATUS if key not in ("history", "queue")}],
    "next_cursor": "WyItY3JlYXRlZCIsICIwMTlmMWMyYSIsIG51bGxd",
}

EVENTS: Example = {
    "items": [
        {**STATUS["history"][0], "waited_seconds": None, "took_seconds": None},
        {**STATUS["history"][1], "waited_seconds": 0.25, "took_seconds": None},
    ],
    "complete": True,
}

BATCH: Example = {
    "batch_id": "01a212ec-5f3b-7c4e-8f6a-7b8c9d0e1f2a",
    "total": 40,
    "files": {"pending": 12, "processing": 4, "completed": 23, "failed": 1, "cancelled": 0},
    "percent": 60,
    "finished": False,
    "files_url": "/api/files?batch_id=01a212ec-5f3b-7c4e-8f6a-7b8c9d0e1f2a",
    "stream_url": "/api/stream?batch_id=01a212ec-5f3b-7c4e-8f6a-7b8c9d0e1f2a",
}

STATS: Example = {
    "time": "2026-11-25T09:00:02.000Z",
    "files": {"pending": 12, "processing": 4, "completed": 98211, "failed": 37, "cancelled": 5},
    "queue": {"length": 11, "expected_seconds": 2.6},
    "rates": {"arrived": 5.2, "begun": 4.6, "ended": 4.6},
    "oldest": {"processing": {"file_id": _ID, "age_seconds": 2.0}},
    "lag": {"processor": {"file.uploaded": 15, "file.retry.5s": 1}, "projector": {}},
    "degraded": [],
}


def answer(example: Example) -> dict[int | str, dict[str, Any]]:
    """Return a response example for FastAPI's `responses=`."""
    return {200: {"content": {"application/json": {"example": example}}}}
