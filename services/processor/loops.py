"""The background loops of a processor pod, their purpose and their deadlines."""

from shared.background.clock_probe import CLOCK_PROBE
from shared.background.loops import Loop

CONSUMER = Loop(
    name="consumer",
    late_after=30.0,
    vital=True,
    restartable=False,
    purpose="Consumes work from Kafka and has it processed.",
    when_late="This pod starts no files; other pods do.",
)
"""It cannot be restarted. Records in flight belong to the current group membership, and the group
reassigns them when this one ends."""

COMMITTER = Loop(
    name="committer",
    late_after=30.0,
    vital=True,
    purpose="Commits which records are started and finished.",
    when_late="This pod starts no files; its finished work may be repeated elsewhere.",
)

CANCELS = Loop(
    name="cancel-follower",
    late_after=30.0,
    vital=True,
    purpose="Follows cancel requests.",
    when_late="Cancelled work runs to its end.",
)

PUBLISHER = Loop(
    name="outcome-publisher",
    late_after=30.0,
    vital=False,
    purpose="Creates topics and maintains the connection that publishes outcomes.",
    when_late="Files stay `processing`; their outcomes wait in this pod.",
)

SCRATCH = Loop(
    name="scratch-space",
    late_after=10.0,
    vital=False,
    purpose="Monitors the free space on the disk for temporary files.",
    when_late="Work starts on a full disk and is retried.",
)

LOOPS = (CONSUMER, COMMITTER, CANCELS, PUBLISHER, SCRATCH, CLOCK_PROBE)
