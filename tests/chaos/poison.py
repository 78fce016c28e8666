"""Records that are not events, or that look valid but cannot be stored in MongoDB."""

import json
from collections.abc import Callable
from typing import Any

from shared.events.events import CompletedData, FailedData, FileCompleted, FileFailed
from shared.events.facts import Failure, Result


def _completed(file_id: str, **statistics: Any) -> bytes:
    result = Result(prefix=f"files/{file_id}/1.1")
    data = CompletedData(attempt=1, max_attempts=1, result=result)
    event = json.loads(FileCompleted.of(file_id, data, source="/chaos").to_json())
    event["data"]["result"]["statistics"] = statistics
    return json.dumps(event).encode()


def _failed(file_id: str, message: str) -> bytes:
    error = Failure(code="demo_failed", message="", retryable=False)
    data = FailedData(attempt=1, max_attempts=1, error=error)
    event = json.loads(FileFailed.of(file_id, data, source="/chaos").to_json())
    event["data"]["error"]["message"] = message
    return json.dumps(event).encode()


NO_JSON = "no JSON"

POISONS: dict[str, Callable[[str], bytes]] = {
    "huge integer": lambda file_id: _completed(file_id, pages=2**63),
    "huge negative integer": lambda file_id: _completed(file_id, pages=-(2**63) - 1),
    "NUL in a key": lambda file_id: _completed(file_id, **{"a\x00b": 1}),
    "lone surrogate in a message": lambda file_id: _failed(file_id, "\ud800"),
    NO_JSON: lambda file_id: b"\xff" + file_id.encode(),
    "no data": lambda _: b'{"specversion": "1.0", "type": "file.completed"}',
}
"""By name: builds the value of a record about a file with this id."""
