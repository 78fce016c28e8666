"""Topics whose records have the brokers' time: also those that an earlier version created."""

import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from shared.deadlines import kafka_answers
from shared.events.topics import TIMESTAMP_TYPE, TOPICS
from shared.settings import Settings

log = logging.getLogger(__name__)

_OF_TOPIC = 1
"""What Kafka calls the source of a setting that was made for the topic itself."""


APPENDED, GIVEN = "LogAppendTime", "CreateTime"
"""Whether the brokers give a record its time, or who writes it."""


async def use_times(
    admin: AIOKafkaAdminClient, settings: Settings, kind: str = APPENDED
) -> list[str]:
    """Have the brokers give each record its time, or not; returns the names of the topics changed.

    What else is set for a topic stays. A refusal is logged: without it the clocks of pods are not
    compared with Kafka's.

    Raises:
        KafkaError, KafkaUnavailableError: Kafka does not answer.
    """
    names = [settings.topic_prefix + topic.name for topic in TOPICS]
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    async with kafka_answers("the settings of topics"):
        answers = await admin.describe_configs(asked)
    changes = []
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:
                log.warning("the settings of %s cannot be read: %s", name, message)
                continue
            present = {entry[0]: entry for entry in entries}
            if present[TIMESTAMP_TYPE][1] == kind:
                continue
            # Kafka replaces all settings of a topic by those that it is given.
            own = {key: entry[1] for key, entry in present.items() if entry[3] == _OF_TOPIC}
            changes.append(
                ConfigResource(ConfigResourceType.TOPIC, name, own | {TIMESTAMP_TYPE: kind})
            )
    if not changes:
        return []
    async with kafka_answers("new settings of topics"):
        changed = await admin.alter_configs(changes)
    done = []
    for answer in changed:
        for code, message, _, name in answer.resources:
            if code:
                log.warning("%s keeps its time stamps: %s %s", name, for_code(code), message)
            else:
                done.append(name)
    return done
