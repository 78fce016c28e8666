"""The background loops of a status pod: what each is for, and how soon it must succeed."""

from shared.background.clock_probe import CLOCK_PROBE
from shared.background.loops import Loop

PROJECTOR = Loop(
    name="projector",
    late_after=30.0,
    vital=True,
    purpose="Folds the events of this pod's partitions into MongoDB.",
    when_late="Lists, searches and files that ended a while ago are behind; live states are not.",
)

FANOUT = Loop(
    name="fan-out",
    late_after=20.0,
    vital=True,
    purpose="Reads the tail of the log for live states and streams.",
    when_late="Streams and states show the past.",
)

RECALL = Loop(
    name="recall",
    late_after=30.0,
    vital=False,
    purpose="Reads from MongoDB what was not known of files while it was away.",
    when_late="Events of files that this pod has not seen before are told once MongoDB answers.",
)

COMMANDS = Loop(
    name="command-publisher",
    late_after=20.0,
    vital=False,
    purpose="Keeps the connection by which commands reach Kafka.",
    when_late="Cancel, retry, delete and share are answered 503.",
)

HEARTBEATS = Loop(
    name="heartbeats",
    late_after=60.0,
    vital=True,
    purpose="Sends a heartbeat on streams in which nothing happens.",
    when_late="Idle streams are silent, and proxies close them.",
)

MONITOR = Loop(
    name="monitor",
    late_after=30.0,
    vital=False,
    purpose="Counts files and lags for `/api/stats`, places in the queue and metrics.",
    when_late="Statistics, places in the queue and the gauges of files and lags are missing.",
)

AUDITOR = Loop(
    name="auditor",
    late_after=300.0,
    vital=False,
    purpose="Compares samples of MongoDB with the log, and counts stuck files.",
    when_late="Drift and stuck files are not noticed.",
)

ERASER = Loop(
    name="eraser",
    late_after=60.0,
    vital=False,
    purpose="Erases what is stored of deleted files.",
    when_late="What is stored of deleted files stays longer; nobody can read it.",
)

REVOCATIONS = Loop(
    name="revocations",
    late_after=60.0,
    vital=False,
    purpose="Ends the streams of API keys that were revoked.",
    when_late="Streams that a revoked key opened go on.",
)

SETTLER = Loop(
    name="settler",
    late_after=30.0,
    vital=False,
    purpose="Ends the files whose cancellation no processor carries out.",
    when_late="A cancelled file that no processor holds stays under way.",
)

OUTBOX_COMMANDS = Loop(
    name="outbox-commands",
    late_after=60.0,
    vital=False,
    purpose="Publishes commands about files that were accepted while Kafka was away.",
    when_late="A command about a file that waits in the outbox takes effect later; none is lost.",
)

NAME_INDEX = Loop(
    name="name-index",
    late_after=120.0,
    vital=False,
    purpose="Gives documents the keys by which their names are found.",
    when_late="Searches by name are slow among the latest files.",
)

RETENTION = Loop(
    name="retention",
    late_after=3 * 3600.0,
    vital=False,
    purpose="Deletes files that are older than the rules say (`WAYBILL_RETENTION`).",
    when_late="Files are kept longer than the rules say.",
)

WEBHOOKS = Loop(
    name="webhooks",
    late_after=60.0,
    vital=False,
    purpose="Delivers webhooks, and retries those that were not taken.",
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
