"""Logs, metrics and health: the same in every service."""

import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest

from shared.settings import Settings

UPLOADS = Counter("waybill_uploads_total", "Uploads answered, by outcome code.", ["outcome"])
UPLOAD_BYTES = Counter("waybill_upload_bytes_total", "Bytes of accepted files.")
OUTBOX = Gauge("waybill_outbox_events", "Events that wait in the blob store for Kafka.")
ATTEMPTS = Counter("waybill_attempts_total", "Attempts that ended, by outcome.", ["outcome"])
IN_FLIGHT = Gauge("waybill_work_in_flight", "Records taken from Kafka and not yet finished.")
WORKERS_LOST = Counter("waybill_workers_lost_total", "Worker processes that died or were killed.")
PROJECTED = Counter("waybill_events_projected_total", "Events folded into MongoDB.")
UNREADABLE = Counter("waybill_unreadable_records_total", "Records sent to the dead letters.")
SUBSCRIBERS = Gauge("waybill_subscribers", "Live connections that follow files.")
PUSHED = Counter("waybill_pushes_total", "Status changes handed to a live connection.")
AUDITED = Counter(
    "waybill_audited_files_total",
    "Documents compared with a fresh fold of the log, by outcome: equal, different, missing.",
    ["outcome"],
)
STUCK = Gauge("waybill_stuck_files", "Files of which nothing is heard for longer than allowed.")
FILES = Gauge("waybill_files", "Files in MongoDB, by status.", ["status"])
LAG = Gauge("waybill_lag_records", "Records that a group has yet to finish.", ["group", "topic"])


_TICKET = re.compile(r"(?<=[?&]ticket=)[^&\s\"']+")


class _WithoutTickets(logging.Filter):
    """Leaves out of a message what opens a stream: uvicorn tells the addresses of WebSockets."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "ticket=" in message:
            record.msg, record.args = _TICKET.sub("…", message), None
        return True


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback if there is one."""

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


def configure_logging(settings: Settings) -> None:
    """Send the service's log to standard error, in the format that the settings name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if settings.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    handler.addFilter(_WithoutTickets())
    for noisy in ("aiokafka", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _nothing() -> None:
    return None


def health_router(
    not_ready: Callable[[], str | None], note: Callable[[], str | None] = _nothing
) -> APIRouter:
    """`/health/live`, `/health/ready` and `/metrics`.

    Args:
        not_ready: says why the service cannot serve now, or None when it can.
        note: says what an operator should know although the service can, or None.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready(response: Response) -> dict[str, str]:
        """The service and the parts it needs can serve."""
        reason = not_ready()
        if reason is None:
            return {"status": "ok"} | ({"note": noted} if (noted := note()) else {})
        response.status_code = 503
        return {"status": "not ready", "reason": reason}

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
