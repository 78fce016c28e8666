"""Logs, metrics and health: the same in every service."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    generate_latest,
)
from prometheus_client.registry import Collector

from shared.clock import CLOCK
from shared.repeated_logs import RepeatedLines
from shared.settings import Settings

STALE_AFTER_INTERVALS = 3
"""Export intervals after which a gauge disappears. One may be lost to a restart."""


class LoopGauge(Collector):
    """A gauge that a background loop exports, and that disappears when the loop stops.

    A stale value looks like an idle system; a missing one triggers `absent()`.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Iterable[str] = (),
        *,
        interval: float,
        registry: CollectorRegistry = REGISTRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Register the gauge.

        Args:
            interval: longest time in seconds between two exports of a healthy loop.
            clock: monotonic seconds.
        """
        self._gauge = Gauge(name, documentation, tuple(labels), registry=None)
        self._fresh_for = interval * STALE_AFTER_INTERVALS
        self._clock = clock
        self._exported_at: float | None = None
        registry.register(self)

    def set(self, value: float) -> None:
        """Export the value of a gauge without labels."""
        self._gauge.set(value)
        self._exported_at = self._clock()

    def export(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Export one value per label set; other label sets disappear."""
        self._gauge.clear()
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        self._exported_at = self._clock()

    def clear(self) -> None:
        """Export nothing, because the value is unknown."""
        self._exported_at = None

    def describe(self) -> Iterable[Metric]:
        """Return the metric's name for the registry."""
        return self._gauge.describe()

    def collect(self) -> Iterable[Metric]:
        """Return the metric, or nothing while its values are stale."""
        if self._exported_at is None or self._clock() - self._exported_at > self._fresh_for:
            return []
        return self._gauge.collect()


UPLOADS = Counter("waybill_uploads_total", "Upload requests, by outcome code.", ["outcome"])
UPLOAD_BYTES = Counter("waybill_upload_bytes_total", "Bytes of accepted files.")
OUTBOX = LoopGauge(
    "waybill_outbox_events", "Events in the outbox that wait for Kafka.", interval=30
)
OUTBOX_DAMAGED = Counter(
    "waybill_outbox_damaged_total",
    "Reads of damaged outbox entries; each is logged, and the entries are kept.",
)
ATTEMPTS = Counter("waybill_attempts_total", "Finished attempts, by outcome.", ["outcome"])
IN_FLIGHT = Gauge("waybill_work_in_flight", "Records consumed from Kafka and not yet finished.")
WORKERS_LOST = Counter("waybill_workers_lost_total", "Worker processes that died or were killed.")
SCRATCH_FREE = LoopGauge(
    "waybill_scratch_free_bytes", "Free bytes on the disk for temporary files.", interval=5
)
SCRATCH_FULL = LoopGauge(
    "waybill_scratch_full",
    "1 while the disk for temporary files is full and the pod starts no new work, else 0.",
    interval=5,
)
ISOLATION_RUNG = Gauge(
    "waybill_isolation_rung",
    "Isolation level of this processor's workers: 1 for the active rung.",
    ["rung"],
)
CLOCK_SKEW = Gauge(
    "waybill_clock_skew_seconds",
    "Seconds by which this machine's clock is ahead of Kafka's. Timestamps are corrected by this "
    "offset; 0 while the clock is right within one second.",
)
CLOCK_SKEW.set_function(lambda: CLOCK.skew)
PROJECTED = Counter("waybill_events_projected_total", "Events projected into MongoDB.")
UNREADABLE = Counter("waybill_unreadable_records_total", "Records sent to the dead letters.")
DEAD_LETTERS = Counter(
    "waybill_dead_letters_total", "Records sent to file.dead, by code.", ["code"]
)
CONSUMER_ERRORS = Counter(
    "waybill_consumer_errors_total",
    "Unexpected errors in consumers. Each is logged, and the record is retried or dead-lettered.",
    ["consumer"],
)
UNREADABLE_DOCUMENTS = Counter(
    "waybill_unreadable_documents_total",
    "Documents in MongoDB that this version cannot read; lists omit them.",
)
SUBSCRIBERS = Gauge("waybill_subscribers", "Live connections with a subscription.")
PUSHED = Counter("waybill_pushes_total", "Status changes sent to live connections.")
AUDITED = Counter(
    "waybill_audited_files_total",
    "Documents compared with a fresh replay of the log, by outcome: equal, different, "
    "missing, mended.",
    ["outcome"],
)
STUCK = LoopGauge(
    "waybill_stuck_files",
    "Files without an event for longer than allowed.",
    interval=60,
)
FILES = LoopGauge("waybill_files", "Files in MongoDB, by status.", ["status"], interval=10)
LAG = LoopGauge(
    "waybill_lag_records",
    "Records that a consumer group has not finished yet.",
    ["group", "topic"],
    interval=10,
)
LOOP_SUCCESS = Gauge(
    "waybill_loop_last_success_seconds",
    "Unix time of the last success of a background loop.",
    ["loop"],
)
LOOP_FAILURES = Counter(
    "waybill_loop_failures_total",
    "Failures of a background loop. Each is followed by a restart or by the end of the pod.",
    ["loop"],
)
BLOB_WRITERS_LOST = Counter(
    "waybill_blob_writers_lost_total",
    "Blob writer processes that died and were restarted.",
)
HTTP_REFUSED = Counter(
    "waybill_http_refused_total",
    "Connections rejected or closed before the application received a complete request, by code.",
    ["code"],
)


_TICKET = re.compile(r"(?<=[?&]ticket=)[^&\s\"']+")


class _WithoutTickets(logging.Filter):
    """Removes stream tickets from messages: uvicorn logs the URLs of WebSockets."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "ticket=" in message:
            record.msg, record.args = _TICKET.sub("…", message), None
        return True


class _JsonFormatter(logging.Formatter):
    """Formats one JSON object per line: time, level, logger, message and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class TextFormatter(logging.Formatter):
    """Formats lines for people. Control characters are escaped, so clients cannot forge lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - overrides logging
        return _escape(super().formatMessage(record), _CONTROLS)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _escape(super().formatException(ei), _CONTROLS_BUT_NEWLINES)


_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROLS_BUT_NEWLINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _escape(text: str, unwanted: re.Pattern[str]) -> str:
    return unwanted.sub(lambda found: ascii(found[0])[1:-1], text)


def configure_logging(settings: Settings) -> None:
    """Write the service's log to standard error, in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if settings.log_format == "json"
        else TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    handler.addFilter(_WithoutTickets())
    handler.addFilter(RepeatedLines("aiokafka"))
    for noisy in ("aiokafka", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _nothing() -> None:
    return None


def _all_well() -> list[str]:
    return []


def health_router(
    not_ready: Callable[[], str | None],
    note: Callable[[], str | None] = _nothing,
    degraded: Callable[[], list[str]] = _all_well,
) -> APIRouter:
    """Return the router for `/health/live`, `/health/ready` and `/metrics`.

    Args:
        not_ready: returns the reason why the service cannot serve, or None if it can.
        note: returns a note for operators while the service can serve, or None.
        degraded: returns what does not work while the service can serve.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Return 200 while the process responds."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready(response: Response) -> dict[str, str | list[str]]:
        """Return 200 with a list of degraded features while the service can serve, else 503."""
        answer: dict[str, str | list[str]] = {"status": "ok"}
        if (reason := not_ready()) is not None:
            response.status_code = 503
            answer = {"status": "not ready", "reason": reason}
        elif noted := "; ".join(filter(None, (note(), CLOCK.note))):
            answer["note"] = noted
        if missing := degraded():
            answer["degraded"] = missing
        return answer

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
