"""The timestamp type of topics: broker time, also for topics that earlier versions created."""

import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from shared.deadlines import kafka_answers
from shared.events.topics import TIMESTAMP_TYPE, TOPICS
from shared.settings import Settings

log = logging.getLogger(__name__)

_OF_TOPIC = 1
"""Kafka's source code for a setting of the topic itself, as opposed to a default."""


BROKER_TIME, PRODUCER_TIME = "LogAppendTime", "CreateTime"
"""Values of `message.timestamp.type`."""


async def set_timestamp_type(
    admin: AIOKafkaAdminClient, settings: Settings, kind: str = BROKER_TIME
) -> list[str]:
    """Set the timestamp type of all topics and return the names of the topics changed.

    Other settings of the topics are kept. If Kafka rejects a change, this is logged: the clocks of
    pods are then not compared with Kafka's.

    Raises:
        KafkaError, KafkaUnavailableError: Kafka is unavailable.
    """
    names = [settings.topic_prefix + topic.name for topic in TOPICS]
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    async with kafka_answers("reading topic settings"):
        answers = await admin.describe_configs(wanted)
    changes = []
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:
                log.warning("the settings of %s cannot be read: %s", name, message)
                continue
            present = {entry[0]: entry for entry in entries}
            if present[TIMESTAMP_TYPE][1] == kind:
                continue
            # Kafka replaces all settings of a topic by those in the request.
            own = {key: entry[1] for key, entry in present.items() if entry[3] == _OF_TOPIC}
            changes.append(
                ConfigResource(ConfigResourceType.TOPIC, name, own | {TIMESTAMP_TYPE: kind})
            )
    if not changes:
        return []
    async with kafka_answers("changing topic settings"):
        changed = await admin.alter_configs(changes)
    done = []
    for answer in changed:
        for code, message, _, name in answer.resources:
            if code:
                log.warning(
                    "the timestamp type of %s was not changed: %s %s", name, for_code(code), message
                )
            else:
                done.append(name)
    return done
