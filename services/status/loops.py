"""The background loops of a status pod: the purpose of each, and how soon it must succeed."""

from shared.background.clock_probe import CLOCK_PROBE
from shared.background.loops import Loop

PROJECTOR = Loop(
    name="projector",
    late_after=30.0,
    vital=True,
    purpose="Folds the events of this pod's partitions into MongoDB.",
    when_late="Lists, searches and files that ended earlier are out of date. Live states are not.",
)

FANOUT = Loop(
    name="fan-out",
    late_after=20.0,
    vital=True,
    purpose="Reads the tail of the log for live states and streams.",
    when_late="Streams and live states are out of date.",
)

RECALL = Loop(
    name="recall",
    late_after=30.0,
    vital=False,
    purpose="Reads the documents that could not be read while MongoDB was unavailable.",
    when_late="Events of files that are new to this pod are delivered once MongoDB responds.",
)

COMMANDS = Loop(
    name="command-publisher",
    late_after=20.0,
    vital=False,
    purpose="Maintains the Kafka connection that publishes commands.",
    when_late="Cancel, retry, delete and share fail with 503.",
)

HEARTBEATS = Loop(
    name="heartbeats",
    late_after=60.0,
    vital=True,
    purpose="Sends heartbeats on idle streams.",
    when_late="Idle streams stay silent, and proxies close them.",
)

MONITOR = Loop(
    name="monitor",
    late_after=30.0,
    vital=False,
    purpose="Measures file counts and lags for `/api/stats`, queue positions and metrics.",
    when_late="Statistics, queue positions and the gauges for files and lags are missing.",
)

AUDITOR = Loop(
    name="auditor",
    late_after=300.0,
    vital=False,
    purpose="Compares samples of MongoDB with the log, and counts stuck files.",
    when_late="Drift and stuck files go unnoticed.",
)

ERASER = Loop(
    name="eraser",
    late_after=60.0,
    vital=False,
    purpose="Erases the stored data of deleted files.",
    when_late="Data of deleted files is stored longer, but nobody can read it.",
)

REVOCATIONS = Loop(
    name="revocations",
    late_after=60.0,
    vital=False,
    purpose="Closes streams that were opened with revoked API keys.",
    when_late="Streams that were opened with a revoked key stay open.",
)

SETTLER = Loop(
    name="settler",
    late_after=30.0,
    vital=False,
    purpose="Cancels files for which no processor can carry out the request.",
    when_late="A file with a cancel request stays unfinished if no processor holds it.",
)

OUTBOX_COMMANDS = Loop(
    name="outbox-commands",
    late_after=60.0,
    vital=False,
    purpose="Publishes commands for files that were accepted while Kafka was unavailable.",
    when_late="Commands for files in the outbox take effect later; none is lost.",
)

NAME_INDEX = Loop(
    name="name-index",
    late_after=120.0,
    vital=False,
    purpose="Adds the search keys of file names to documents.",
    when_late="Searches by name are slow for recent files.",
)

RETENTION = Loop(
    name="retention",
    late_after=3 * 3600.0,
    vital=False,
    purpose="Deletes files that exceed their retention period (`WAYBILL_RETENTION`).",
    when_late="Files are kept longer than their retention period.",
)

WEBHOOKS = Loop(
    name="webhooks",
    late_after=60.0,
    vital=False,
    purpose="Delivers webhooks and retries failed deliveries.",
    when_late="Webhooks are late; none is lost.",
)

LOOPS = (
    PROJECTOR,
    FANOUT,
    RECALL,
    COMMANDS,
    CLOCK_PROBE,
    HEARTBEATS,
    MONITOR,
    AUDITOR,
    ERASER,
    REVOCATIONS,
    NAME_INDEX,
    SETTLER,
    OUTBOX_COMMANDS,
    RETENTION,
    WEBHOOKS,
)
