"""The background loops of a processor pod: what each is for, and how soon it must succeed."""

from shared.background.clock_probe import CLOCK_PROBE
from shared.background.loops import Loop

CONSUMER = Loop(
    name="consumer",
    late_after=30.0,
    vital=True,
    restartable=False,
    purpose="Takes work from Kafka and has it done.",
    when_late="This pod begins no files; other pods do.",
)
"""Another run could not go on: the records in hand belong to the membership in the group, and the
group gives them to another pod when this one ends."""

COMMITTER = Loop(
    name="committer",
    late_after=30.0,
    vital=True,
    purpose="Commits which records are begun and finished.",
    when_late="This pod begins no files; what it finished may be done again elsewhere.",
)

CANCELS = Loop(
    name="cancel-follower",
    late_after=30.0,
    vital=True,
    purpose="Follows the requests to cancel.",
    when_late="Work that was cancelled goes on to its end.",
)

PUBLISHER = Loop(
    name="outcome-publisher",
    late_after=30.0,
    vital=False,
    purpose="Creates topics and keeps the connection by which outcomes reach Kafka.",
    when_late="Files stay processing; their outcomes wait in this pod.",
)

SCRATCH = Loop(
    name="scratch-space",
    late_after=10.0,
    vital=False,
    purpose="Watches the room on the disk for temporary files.",
    when_late="Work is begun on a full disk, and is retried.",
)

LOOPS = (CONSUMER, COMMITTER, CANCELS, PUBLISHER, SCRATCH, CLOCK_PROBE)
