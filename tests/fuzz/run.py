"""Sending raw requests to running services, and judging what comes back."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.fuzz.requests import Connection
from tests.fuzz.understanding import begun_by_h11

AT_ONCE = 40
"""Connections at once: fewer than `WAYBILL_MAX_UPLOADS`, beyond which 503 is right."""

BOUND = 30.0
"""Seconds in which a connection is answered or ended: the longest limit is 20 s."""

SETTLED = 0.05
"""Seconds that a client waits for more once all it can expect has come."""

REFUSALS = (
    b"malformed_request",
    b"unsupported_http_version",
    b"head_",
    b"body_",
    b"request_timeout",
)
"""Codes of what is refused before it is a request: the reference may not have taken it for one."""

_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) [^\r\n]*\r\n")
_TAG = re.compile(rb'"instance":"(/fuzz/[^"]*)"')


@dataclass
class Report:
    """What came of a run."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, connection: Connection, what: str, answer: bytes) -> None:
        """Note what must not be."""
        self.faults.append(f"{connection!r}: {what}: {answer[:600]!r}")


async def send_all(
    ports: Mapping[str, int], sent: Sequence[Connection], *, at_once: int = AT_ONCE
) -> Report:
    """Send everything, some connections at once, and return what came of it."""
    report = Report()
    waiting = iter(sent)

    async def work() -> None:
        for connection in waiting:
            await _send(ports[connection.service], connection, report)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return report


async def _send(port: int, connection: Connection, report: Report) -> None:
    begun = begun_by_h11(connection.raw)
    whole = sum(request.body is not None for request in begun)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        raw, size = connection.raw, -(-len(connection.raw) // connection.pieces)
        for start in range(0, len(raw), size):
            writer.write(raw[start : start + size])
            if connection.pieces > 1:
                await asyncio.sleep(0)
        answer = await _answer(reader, whole)
    except ConnectionError:
        pass  # What is judged is what came before.
    except TimeoutError:
        report.fault(connection, "no answer in time", answer)
    finally:
        writer.transport.abort()
    _judge(connection, answer, [request.path for request in begun], report)


async def _answer(reader: asyncio.StreamReader, expected: int) -> bytes:
    """Return what comes until all that is expected is there or the server closes."""
    answer = b""
    async with asyncio.timeout(BOUND):
        while True:
            enough = _finals(answer) >= expected
            try:
                piece = await asyncio.wait_for(reader.read(1 << 16), SETTLED if enough else None)
            except TimeoutError:
                if enough:
                    return answer
                raise
            if not piece:
                return answer
            answer += piece


def _finals(answer: bytes) -> int:
    return sum(status[:1] != b"1" or status == b"101" for status in _STATUS.findall(answer))


def _judge(connection: Connection, answer: bytes, expected: Sequence[str], report: Report) -> None:
    statuses = [int(status) for status in _STATUS.findall(answer)]
    report.statuses.update(statuses)
    if any(status >= 500 for status in statuses):
        report.fault(connection, "a 5xx", answer)
    if answer and not answer.startswith(b"HTTP/1.1 "):
        report.fault(connection, "no HTTP", answer)
    finals = _finals(answer)
    if finals > len(expected) + 1:
        report.fault(connection, f"{finals} answers to {len(expected)} requests", answer)
    tags = [json.loads(b'"' + tag + b'"').lstrip("/") for tag in _TAG.findall(answer)]
    paths = iter(expected)
    refused = any(b'"code":"%b' % code in answer for code in REFUSALS)
    for number, tag in enumerate(tags):
        is_last_and_refused = refused and number == len(tags) - 1
        if (
            not any(unquote(path.partition("?")[0]) == tag for path in paths)
            and not is_last_and_refused
        ):
            report.fault(connection, f"{tag} was answered twice or out of order", answer)
