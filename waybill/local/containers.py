"""Kafka and MongoDB in Docker, if the daemon has the images. No image is pulled."""

import os
from typing import Any

from waybill.local.ports import HOST, free_port

KAFKA_IMAGE = "apache/kafka:4.3.1"
MONGODB_IMAGE = "mongo:7"


def kafka_container(volume: str) -> tuple[Any, str] | None:
    """Start Kafka and return the container and its address; None without Docker or the image.

    Args:
        volume: Name of the Docker volume for the data.
    """
    port = free_port()
    started = _start(
        KAFKA_IMAGE,
        ports={port: port},
        volume=(volume, "/var/lib/kafka/data"),
        environment={
            "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        },
    )
    return started and (started, f"{HOST}:{port}")


def mongodb_container(volume: str) -> tuple[Any, str] | None:
    """Start MongoDB and return the container and its connection string.

    Returns None without Docker or the image.

    Args:
        volume: Name of the Docker volume for the data.
    """
    port = free_port()
    started = _start(
        MONGODB_IMAGE, ports={27017: port}, volume=(volume, "/data/db"), environment={}
    )
    return started and (started, f"mongodb://{HOST}:{port}")


def _start(
    image: str, *, ports: dict[int, int], volume: tuple[str, str], environment: dict[str, str]
) -> Any:
    # The reaper needs another image. The stack stops its containers itself.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    try:
        import docker
        from testcontainers.core.container import DockerContainer

        docker.from_env(timeout=2).images.get(image)
    except Exception:
        return None  # No library, daemon or image: the caller uses the package registries.
    container = DockerContainer(image)
    container.with_volume_mapping(*volume, mode="rw")
    for inside, outside in ports.items():
        container.with_bind_ports(inside, outside)
    for name, value in environment.items():
        container.with_env(name, value)
    return container.start()
